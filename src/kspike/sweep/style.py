# SPDX-License-Identifier: MIT
"""How the report looks."""

__all__ = ["STYLE"]

STYLE = """
:root { --paper: #f6f7f9; --card: #fff; --ink: #16202c; --faint: #66727f; --line: #e3e7ec; --accent: #e0533a; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #11161d; --card: #1a212b; --ink: #e8edf3; --faint: #95a1ae; --line: #2b3542; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 44px 28px 80px; }
.kicker { margin: 0; color: var(--accent); font-weight: 700; letter-spacing: .09em; text-transform: uppercase;
  font-size: 12px; }
h1 { font-size: 34px; line-height: 1.15; margin: 4px 0 6px; letter-spacing: -.02em; }
.lead { margin: 0; color: var(--faint); font-size: 16px; }
h2 { font-size: 23px; margin: 52px 0 4px; letter-spacing: -.01em; }
h3 { font-size: 16px; margin: 26px 0 2px; }
p { margin: 0 0 12px; max-width: 78ch; color: var(--faint); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px; margin: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-top: 26px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px 16px; }
.tile b { display: block; font-size: 25px; line-height: 1.2; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--faint); font-size: 13px; }
.pair { display: grid; grid-template-columns: minmax(0, 1.25fr) minmax(0, 1fr); gap: 14px; align-items: start; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { text-align: right; padding: 8px 9px; border-bottom: 1px solid var(--line); white-space: nowrap; }
tr:last-child th, tr:last-child td { border-bottom: 0; }
th { font-weight: 600; } th:first-child { text-align: left; color: var(--faint); }
th small, td small { display: block; font-weight: 400; color: var(--faint); font-size: 11.5px; }
td i { font-style: normal; color: var(--faint); } td.none { color: var(--faint); }
table.text td, table.text th { text-align: left; white-space: normal; vertical-align: top; }
.chart { width: 100%; height: auto; display: block; }
.chart .grid { stroke: var(--line); } .chart .dot { stroke: var(--card); stroke-width: 1.5; }
.chart .tick, .chart .axis { fill: var(--faint); font-size: 12px; } .chart .end { font-size: 13px; font-weight: 600; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 14px; }
.map { width: 100%; height: auto; display: block; } .map .value { font-size: 8.5px; text-anchor: middle; }
figcaption { color: var(--faint); font-size: 13px; margin-top: 10px; } figcaption b { color: var(--ink); }
.gallery { display: grid; grid-template-columns: repeat(auto-fit, minmax(500px, 1fr)); gap: 14px; }
.row { display: grid; grid-template-columns: repeat(2, 1fr); gap: 10px; }
.row small { color: var(--faint); font-size: 12px; }
.panel { position: relative; overflow: hidden; border-radius: 6px; background: #000; }
.panel img { display: block; width: 100%; image-rendering: pixelated; }
.panel i { position: absolute; border: 1.5px solid #ff5340; }
.panel .zoom { position: absolute; width: 42%; border: 1.5px solid #ff5340; }
.zoom.top { top: 3%; } .zoom.bottom { bottom: 3%; } .zoom.left { left: 3%; } .zoom.right { right: 3%; }
details { margin-top: 14px; } summary { cursor: pointer; color: var(--faint); }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px; overflow: auto;
  font-size: 12.5px; }
code { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@media (max-width: 860px) { .pair { grid-template-columns: 1fr; } .gallery { grid-template-columns: 1fr; } }
"""
