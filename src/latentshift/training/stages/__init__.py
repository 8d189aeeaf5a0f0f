"""The three stages of Fig. 3 and what they are made of: model, data, objective, validation. Knows no loop."""
