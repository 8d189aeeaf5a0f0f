"""Training of the paper's three stages. Knows nothing of the command line.

To follow a step, read ``recipe``, ``run``, ``loop``, ``train_state`` and ``losses``. What a batch is made of is drawn in
``collate``; what a stage starts from and exports stands in ``stages``.
"""
