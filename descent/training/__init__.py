"""How a model is trained: the loop, optimizers, schedules, precision, averages and checkpoint files."""
