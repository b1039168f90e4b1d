"""Recipes on tables of rows."""

from __future__ import annotations

from descent.data.config import TableData
from descent.models.linear import LinearConfig
from descent.objectives import SupervisedConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe
from descent.training.optimizers import SGDConfig
from descent.training.schedules import ConstantConfig


def linear_housing() -> Recipe:
    """Least squares by gradient descent: the whole training split a step, Nesterov's momentum.

    The condition number of the features decides the pace; nine tenths of the way is done in 50 steps,
    the six digits of agreement with the closed form take some thousands.
    """
    return Recipe(
        name="linear-housing",
        about="linear regression on California housing prices",
        precision="fp32",
        data=TableData(source="housing", drop_first=True),
        model=LinearConfig(),
        objective=SupervisedConfig(loss="mse"),
        optimizer=SGDConfig(learning_rate=0.1, momentum=0.99, nesterov=True),
        schedule=ConstantConfig(),
        budget=Budget(steps=6000, batch_size=0),
        evaluation=EvaluationPlan(batch_size=4096),
    )


def linear_diabetes() -> Recipe:
    """The same on scikit-learn's bundled diabetes study, which needs no download."""
    # The rate suits tables whose columns say much the same, too: 30 correlated ones diverge at 0.1.
    return linear_housing().replace(
        name="linear-diabetes",
        about="linear regression on embedded data (no download)",
        data=TableData(source="diabetes").table(),
        optimizer=SGDConfig(learning_rate=0.02, momentum=0.99, nesterov=True).table(),
        budget=Budget(steps=4000, batch_size=0).table(),
    )
