"""Training of the paper's three stages, and of ControlNets. Knows nothing of the command line.

To follow a step, read ``recipe``, ``run``, ``loop``, ``train_state`` and ``losses``. A batch is drawn in
``data.collate``. What a stage starts from and exports stands in ``stages``.
"""
