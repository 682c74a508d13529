# SPDX-License-Identifier: MIT
"""The pictures: matplotlib figures on their own canvas, without pyplot and its global state: threads may draw."""

from kspike.plots.canvas import need_matplotlib
from kspike.plots.charts import Chart, Series, charts, curve, heatmap
from kspike.plots.panels import panels, triptych

__all__ = ["Chart", "Series", "charts", "curve", "heatmap", "need_matplotlib", "panels", "triptych"]
