"""The three stages of Fig. 3, that of ControlNets, and what they are made of: model, data, objective, validation.

Knows no loop.
"""
