# SPDX-License-Identifier: Apache-2.0
"""Holds the style sheet of the page of `mrunc report --html`: light, dark and on paper."""

STYLE = """
:root{--bg:#f5f6f8;--card:#fff;--ink:#1a1f29;--soft:#5b6472;--line:#e0e4ea;--faint:#f0f2f5;
--accent:#2f5fd0;--accent2:#8a4fd3;
--ok:#17794a;--okbg:#e2f4ea;--warn:#955b00;--warnbg:#fdf0d9;--bad:#b3261e;--badbg:#fce8e6;
--bar:#6d93e8;
--mono:ui-monospace,SFMono-Regular,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",
monospace}
@media (prefers-color-scheme:dark){:root{--bg:#0f131a;--card:#171c25;--ink:#e5e9f0;--soft:#98a2b3;
--line:#2a313d;
--faint:#1f2631;--accent:#82a7ff;--accent2:#c39bff;--ok:#5fd39a;--okbg:#12321f;--warn:#f0b95a;
--warnbg:#3a2a0b;--bad:#ff8a80;--badbg:#411a17;
--bar:#4a74d8}}
*{box-sizing:border-box}
html{color-scheme:light dark;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,
"Segoe UI",Roboto,"Helvetica Neue",
"DejaVu Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 24px 64px}
h1,h2,h3,p,dl,dd,ul{margin:0;padding:0}
h2{font-size:18px;letter-spacing:-.01em;margin:0 0 4px}
h3{font-size:15px;font-weight:600;display:flex;gap:10px;align-items:baseline;flex-wrap:wrap}
a{color:inherit;text-decoration:none}
a:hover{text-decoration:underline}
code,.m{font-family:var(--mono);font-size:.88em;unicode-bidi:isolate;direction:ltr;
overflow-wrap:anywhere;white-space:pre-wrap}
.esc{font-style:normal;color:var(--bad);background:var(--badbg);border-radius:3px}
.soft{color:var(--soft)}
.brand{font-size:12px;letter-spacing:.09em;text-transform:uppercase;color:var(--soft);
margin-bottom:10px}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:20px 22px;
margin-top:18px}
.hero{border-top:4px solid var(--soft)}
.hero.ok{border-top-color:var(--ok)}.hero.warn{border-top-color:var(--warn)}.hero.bad{
border-top-color:var(--bad)}
.verdict{display:flex;gap:12px;align-items:center;flex-wrap:wrap}
.pill{font-weight:600;font-size:13px;padding:2px 11px;border-radius:99px;background:var(--faint);
color:var(--ink)}
.pill.ok{background:var(--okbg);color:var(--ok)}.pill.warn{background:var(--warnbg);
color:var(--warn)}
.pill.bad{background:var(--badbg);color:var(--bad)}
h1{font-size:23px;line-height:1.3;letter-spacing:-.015em;margin:12px 0 0;overflow-wrap:anywhere}
.seen{display:grid;grid-template-columns:auto 1fr;gap:2px 14px;margin-top:11px;font-size:14px}
.seen dt{color:var(--soft)}.seen dd{overflow-wrap:anywhere}
.cmd{display:block;margin-top:16px;padding:11px 14px;background:var(--faint);border-radius:8px;
max-height:11em;overflow:auto}
.meta{display:flex;flex-wrap:wrap;gap:4px 24px;margin-top:14px;font-size:13px}
.meta dt{display:inline;color:var(--soft)}.meta dd{display:inline;margin-left:6px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(132px,1fr));gap:12px;
margin-top:18px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:13px 16px}
.tile b{display:block;font-size:21px;line-height:1.25;font-weight:650;letter-spacing:-.02em;
font-variant-numeric:tabular-nums}
.tile span{font-size:12px;color:var(--soft)}
.tile.bad b{color:var(--bad)}.tile.warn b{color:var(--warn)}
.chips{display:flex;flex-wrap:wrap;gap:8px;margin-top:12px}
.chip{display:inline-flex;gap:8px;align-items:baseline;border:1px solid var(--line);
border-radius:8px;padding:4px 10px;
font-size:13px}
.tid{font-family:var(--mono);font-size:12px;font-weight:600;color:var(--accent2);white-space:nowrap}
.tid+.tid,code+.tid{margin-left:5px}
.n{font-size:12px;font-weight:400;color:var(--soft);font-variant-numeric:tabular-nums}
.lead{color:var(--soft);font-size:13px;margin-bottom:12px}
.group th{padding:18px 0 5px;white-space:normal;font-weight:400}
.group h3{color:var(--ink);font-size:14.5px}
.why{font-size:13px;color:var(--soft);margin:1px 0 0}
.fixed{table-layout:fixed}.w1{width:70px}.w2{width:126px}.w3{width:190px}.w4{width:138px}
table{width:100%;border-collapse:collapse;font-size:13.5px}
th{text-align:left;font-weight:500;font-size:12px;color:var(--soft);padding:5px 10px 5px 0;
border-bottom:1px solid var(--line);
white-space:nowrap}
td{padding:5px 10px 5px 0;line-height:1.45;border-bottom:1px solid var(--faint);vertical-align:top}
tr:last-child td{border-bottom:0}
td:last-child,th:last-child{padding-right:0}
.num{text-align:right;font-size:13px;font-variant-numeric:tabular-nums;white-space:nowrap}
.nw{white-space:nowrap}
.err{font-family:var(--mono);font-size:12px;color:var(--bad);white-space:nowrap}
.tag{font-size:12px;font-weight:600;border-radius:5px;padding:1px 7px;background:var(--faint);
white-space:nowrap}
.tag.added{background:var(--okbg);color:var(--ok)}.tag.modified{background:var(--warnbg);
color:var(--warn)}
.tag.deleted{background:var(--badbg);color:var(--bad)}
.yes{color:var(--ok);font-weight:600}.no{color:var(--bad);font-weight:700}
.lane{width:30%;min-width:150px}
.lane svg{display:block;width:100%;height:12px;margin-top:5px}
.lane .back{fill:var(--faint)}.lane .run{fill:var(--bar)}
.twig{display:block;position:relative;border-left:2px solid transparent}
.kin{border-left:2px solid var(--line);padding-left:10px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:18px 26px;
margin-top:14px}
.chart h3{justify-content:space-between;font-size:13px}
.chart svg{display:block;width:100%;height:auto;margin-top:6px;overflow:visible}
.chart .grid{stroke:var(--line);stroke-width:1}
.chart .line{fill:none;stroke:var(--accent);stroke-width:1.8;stroke-linejoin:round;
vector-effect:non-scaling-stroke}
.chart .area{fill:var(--accent);opacity:.13}
.chart text{font-size:10.5px;fill:var(--soft);font-family:system-ui,sans-serif}
.cut{font-size:13px;color:var(--soft);padding-top:9px}
footer{margin-top:26px;font-size:12px;color:var(--soft)}
@media (max-width:640px){main{padding:16px 12px 40px}.card{padding:16px 14px}.lane{display:none}h1{
font-size:20px}
.fixed,.fixed tbody{display:block}.fixed thead,.fixed td:nth-child(4){display:none}
.fixed tr{display:grid;grid-template-columns:auto 1fr auto;gap:0 9px;
border-bottom:1px solid var(--faint);padding:5px 0}
.fixed tr.group,.fixed tr:last-child{border-bottom:0}.fixed td{border:0;padding:0}.fixed .group th{
grid-column:1/4}
.fixed td:nth-child(2){grid-column:2/4}.fixed td:nth-child(3){grid-column:2}
.facts,.facts tbody,.facts tr,.facts td{display:block}.facts thead{display:none}.facts tr{
padding:6px 0;border-bottom:1px solid
var(--faint)}.facts td{border:0;padding:0}.facts td:nth-child(2){display:none}
.facts td:nth-child(1),.facts td:nth-child(3){
display:inline;margin-right:10px}}
@media print{:root{--bg:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--faint:#f2f2f2;
--ok:#0b5c34;--warn:#7a4a00;
--bad:#8f1912;--accent:#1c4bb8;--accent2:#5d2ca3;--okbg:#fff;--warnbg:#fff;--badbg:#fff;
--bar:#6d93e8}
html{color-scheme:light}
body{font-size:10.5pt}main{max-width:none;padding:0}
.card,.tile{border-radius:0;padding:10px 12px;margin-top:10px}.card{break-inside:auto}
.tile,tr,.chart,.hero{break-inside:avoid}
h2,h3,.lead,.group{break-after:avoid}.cmd{max-height:none;overflow:visible}.pill,.tag{
border:1px solid currentColor}
.lane .run,.lane .back,.chart .area{print-color-adjust:exact;-webkit-print-color-adjust:exact}thead{
display:table-header-group}}
""" + "".join(".d%d{margin-left:%.1fem}" % (depth, depth * 1.15) for depth in range(1, 25)) + "\n"
