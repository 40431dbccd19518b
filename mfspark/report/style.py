"""The page's style sheet and script. Bokeh takes what begins with ``--bk-`` for the lines and letters it draws."""

STYLE = """
:root { color-scheme: light dark; --paper: #f6f7f9; --card: #ffffff; --ink: #1c2430; --quiet: #5d6878;
  --line: #dfe3e9; --mark: #2563eb; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #101318; --card: #181c23; --ink: #e4e8ee; --quiet: #98a3b3; --line: #2c333e; --mark: #7aa7ff; }
}
:root { --bk-background-fill-color: var(--card); --bk-border-fill-color: var(--card);
  --bk-outline-line-color: transparent;
  --bk-axis-line-color: var(--line); --bk-axis-label-text-color: var(--quiet);
  --bk-major-label-text-color: var(--quiet);
  --bk-major-tick-line-color: var(--line); --bk-minor-tick-line-color: transparent; --bk-grid-line-color: var(--line);
  --bk-axis-label-text-font-style: normal; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main, header { max-width: 1180px; margin: 0 auto; padding: 0 16px; }
header { padding-top: 24px; }
h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 8px; }
h3 { font-size: .95rem; margin: 0; }
header p, figcaption p, .note { color: var(--quiet); margin: 2px 0 8px; font-size: .85rem; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 12px 0; font-size: .85rem; }
nav a { color: var(--mark); text-decoration: none; }
nav a:hover { text-decoration: underline; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px;
  margin: 0 0 16px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(136px, 1fr)); gap: 8px; margin: 14px 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 12px; }
.tile b { display: block; font-size: 1.1rem; font-variant-numeric: tabular-nums; }
.tile span { color: var(--quiet); font-size: .8rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: 16px; }
figure { margin: 0; min-width: 0; }
.wide { overflow-x: auto; margin: 8px 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; min-width: 50%; }
th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td { max-width: 60ch; overflow-wrap: anywhere; }
th { color: var(--quiet); font-weight: 500; }
.numbers th, .numbers td { white-space: nowrap; }
.numbers th:not(:first-child), .numbers td:not(:first-child) { text-align: right; }
.absent { color: var(--quiet); font-style: italic; margin: 0; }
.near { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); gap: 12px 24px; }
.near ol { margin: 4px 0 0; padding-left: 20px; }
.near li span, .near h3 span { color: var(--quiet); font-weight: 400; }
.near div { min-width: 0; overflow-wrap: anywhere; }
footer { color: var(--quiet); font-size: .8rem; padding: 0 0 24px; }
"""

SCRIPT = """
const charts = JSON.parse(document.getElementById("charts").textContent);
for (const [name, item] of Object.entries(charts)) Bokeh.embed.embed_item(item, "chart-" + name);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const view of Bokeh.index.roots) view.request_paint?.();
});
"""
