"""Floor plans measured beside real ones: rooms, areas, doors between them, variety, copies."""

from kuosan.evaluation.plan.evaluate import evaluate_plans
from kuosan.evaluation.plan.graphs import Graph, edit_distance
from kuosan.evaluation.plan.portraits import Portrait, portrait

__all__ = ["Graph", "Portrait", "edit_distance", "evaluate_plans", "portrait"]
