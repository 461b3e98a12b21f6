"""The style of the report: one sheet, no script, no file or font from elsewhere."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfaf8; --card: #ffffff; --ink: #1d1f23; --soft: #5d636e; --faint: #8b919c;
  --rule: #e4e2dd; --track: #eeece7;
  --accent: #2f5fa8; --accent-soft: #a9bfe0;
  --good: #2c7a4b; --caution: #a86a08; --bad: #b3362c;
  --s0: #2f5fa8; --s1: #d07a1f; --s2: #2b8a7e; --s3: #8656a8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14161a; --card: #1b1e24; --ink: #e7e8ea; --soft: #a4aab5; --faint: #7b828e;
    --rule: #2c3038; --track: #282c34;
    --accent: #7fa8e6; --accent-soft: #3d5680;
    --good: #66c08a; --caution: #e0a94a; --bad: #ec7f74;
    --s0: #7fa8e6; --s1: #eba457; --s2: #5fc4b6; --s3: #bd92dd;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans",
    "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1240px; margin: 0 auto; padding: 40px 28px 72px; }
h1, h2, h3 { line-height: 1.2; font-weight: 600; margin: 0; }
h1 { font-size: 30px; letter-spacing: -0.015em; overflow-wrap: anywhere; }
h2 { font-size: 20px; letter-spacing: -0.01em; margin: 56px 0 4px; }
h3 { font-size: 15px; }
p { margin: 0; }
.muted, .lead { color: var(--soft); }
.lead { font-size: 14.5px; max-width: 78ch; margin-bottom: 18px; }
h2 + .card, h2 + .two, h2 + .curves { margin-top: 16px; }
.eyebrow {
  font-size: 12px; letter-spacing: 0.09em; text-transform: uppercase; color: var(--faint);
  margin-bottom: 8px;
}
.facts { color: var(--soft); font-size: 14px; margin-top: 8px; display: flex; flex-wrap: wrap;
  gap: 4px 22px; overflow-wrap: anywhere; }
.facts b { color: var(--ink); font-weight: 500; }

.verdict { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); gap: 20px 48px;
  margin-top: 30px; padding: 26px 30px 28px; background: var(--card);
  border: 1px solid var(--rule); border-left: 5px solid var(--tone); border-radius: 8px; }
.good { --tone: var(--good); } .caution { --tone: var(--caution); } .bad { --tone: var(--bad); }
.verdict h2 { margin: 0 0 10px; font-size: 25px; color: var(--tone); }
.verdict .eyebrow { color: var(--faint); }
.findings { list-style: none; margin: 0; padding: 0; font-size: 14.5px; line-height: 1.5; }
.findings li { position: relative; padding: 0 0 0 26px; margin: 0 0 10px; }
.findings li:last-child { margin-bottom: 0; }
.findings li::before { position: absolute; left: 0; top: 3px; width: 16px; height: 16px;
  border-radius: 50%; color: var(--card); background: var(--tone); content: "\\2713";
  font: 700 11px/16px system-ui, sans-serif; text-align: center; }
.findings .caution::before, .findings .bad::before { content: "!"; }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 14px;
  margin-top: 18px; }
.tile { background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  padding: 16px 18px 15px; }
.tile .name { font-size: 13px; color: var(--soft); }
.tile .value { font-size: 31px; white-space: nowrap; line-height: 1.25; font-weight: 600;
  letter-spacing: -0.02em; }
.tile .value small { font-size: 15px; font-weight: 500; color: var(--faint); letter-spacing: 0; }
.tile .note { font-size: 12.5px; color: var(--faint); line-height: 1.4; }
.tile:first-child .value { color: var(--accent); }

.card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  padding: 18px 22px; }
.ladder { display: grid; gap: 9px; font-size: 14.5px; }
.step { display: grid; grid-template-columns: 21em minmax(80px, 1fr) 3em 3.4em; gap: 4px 14px;
  align-items: center; grid-template-areas: "name bar num gain"; }
.step .name { grid-area: name; } .step .bar { grid-area: bar; } .step .num { grid-area: num; }
.step .gain { grid-area: gain; text-align: right; color: var(--faint); font-size: 13px; }
.step .where { color: var(--faint); font-size: 12.5px; margin-left: 6px; }
.num { text-align: right; white-space: nowrap; } .step .num { font-weight: 600; }
th.num { text-align: right; }
.up { color: var(--good) !important; } .down { color: var(--bad) !important; }
.bar { height: 10px; border-radius: 5px; background: var(--track); overflow: hidden; }
.bar i { display: block; height: 100%; border-radius: 5px; background: var(--accent); }
.bar.cue i { background: var(--accent-soft); }
.bar.aside i { background: var(--faint); opacity: 0.45; }

.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 500; color: var(--faint); font-size: 12.5px;
  padding: 4px 12px 8px 0; border-bottom: 1px solid var(--rule); white-space: nowrap; }
td { padding: 6px 12px 6px 0; border-bottom: 1px solid var(--rule); }
tr:last-child td { border-bottom: 0; }
td:last-child, th:last-child { padding-right: 0; }
tr.total td { font-weight: 600; }
td .bar { min-width: 110px; height: 8px; }
td.wide { width: 34%; } td.name { white-space: nowrap; }
td.zero { color: var(--faint); }
td.alert { color: var(--bad); font-weight: 600; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 7px;
  box-shadow: inset 0 0 0 1px rgb(128 128 128 / 0.35); }
.swatch.ignored { background: repeating-linear-gradient(135deg, #ddd 0 2px, #777 2px 4px); }
.mono { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 12.5px; }
.badge { font-size: 12px; color: var(--soft); border: 1px solid var(--rule); border-radius: 9px;
  padding: 0 7px; margin-left: 8px; white-space: nowrap; }

.two { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 18px; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)); gap: 18px; }
.curves h3, .two h3 { margin-bottom: 10px; }
.chart { display: block; width: 100%; height: auto; overflow: visible; }
.chart text { fill: var(--faint); font-size: 11px; }
.chart .grid { stroke: var(--rule); stroke-width: 1; }
.card .muted { font-size: 13px; margin-top: 12px; }
.chart.square { max-width: 340px; margin: 0 auto; } .dot { fill: var(--accent); }
.line { fill: none; stroke: var(--c); stroke-linejoin: round; }
.line.raw { stroke-width: 1; opacity: 0.28; } .line.smooth { stroke-width: 2; }
.s0 { --c: var(--s0); } .s1 { --c: var(--s1); } .s2 { --c: var(--s2); } .s3 { --c: var(--s3); }
.keys, .legend { display: flex; flex-wrap: wrap; gap: 3px 18px; font-size: 13px;
  color: var(--soft); }
.keys { margin-top: 8px; } .keys b { color: var(--ink); font-weight: 600; }
.key { display: inline-block; width: 14px; height: 3px; border-radius: 2px; background: var(--c);
  vertical-align: middle; margin-right: 7px; }
.legend { margin: 0 0 20px; }

.row { padding: 16px 0 20px; border-top: 1px solid var(--rule); }
.row header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 14px;
  margin-bottom: 10px; font-size: 13.5px; color: var(--soft); }
.row h3 { font-weight: 600; color: var(--ink); overflow-wrap: anywhere; }
.split { color: var(--faint); } .score b { color: var(--ink); }
.score { margin-left: auto; display: flex; gap: 14px; }
.reasons { color: var(--soft); font-size: 13px; margin-bottom: 8px; }
.problem { color: var(--bad); font-size: 13.5px; margin-bottom: 8px; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(132px, 1fr)); gap: 10px; }
figure { margin: 0; min-width: 0; }
.frame { background: var(--track); border-radius: 5px; }
.frame img { display: block; width: 100%; height: 100%; border-radius: 5px; cursor: zoom-in;
  outline-offset: 2px; }
.frame img:focus { position: fixed; inset: 0; margin: auto; z-index: 9; width: auto; height: auto;
  min-width: min(86vw, 115vh); max-width: 94vw; max-height: 94vh; object-fit: contain;
  cursor: default; pointer-events: none; box-shadow: 0 0 0 100vmax rgb(0 0 0 / 0.72);
  outline: none; }
figcaption { font-size: 12.5px; color: var(--faint); margin-top: 4px; }

details { border-top: 1px solid var(--rule); padding: 12px 0; }
details:last-of-type { border-bottom: 1px solid var(--rule); }
summary { cursor: pointer; font-size: 14.5px; font-weight: 500; }
details > *:not(summary) { margin-top: 12px; }
pre { overflow-x: auto; line-height: 1.5; margin-bottom: 0; }
footer { margin-top: 48px; color: var(--faint); font-size: 13px; }
@media (max-width: 820px) {
  main { padding: 24px 16px 48px; }
  .verdict, .two { grid-template-columns: minmax(0, 1fr); }
  .verdict { padding: 20px; }
  .step { grid-template-columns: minmax(0, 1fr) 3em 3.4em;
    grid-template-areas: "name num gain" "bar bar bar"; }
  td.wide { display: none; } th.wide { display: none; }
}
@media print {
  body { background: #fff; font-size: 12px; } .card, .tile, .verdict { break-inside: avoid; }
  .row { break-inside: avoid; }
}
"""
