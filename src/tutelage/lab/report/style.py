"""The page's style sheet: one column of paper, dark and light by the reader's setting, printable, narrow or wide."""

CSS = """
:root{color-scheme:light dark;--paper:#fbfaf7;--card:#fff;--ink:#1d2126;--soft:#5a616b;--line:#dfdcd3;--wash:#f1efe8;
--accent:#23527c;--holds:#17683f;--holds-wash:#dff0e5;--fails:#a02a1c;--fails-wash:#f9e2dd;--open:#6d5200;
--open-wash:#f6ebcb}
@media (prefers-color-scheme:dark){:root{--paper:#15181d;--card:#1b1f25;--ink:#e6e4de;--soft:#a3a9b2;--line:#343a43;
--wash:#22272e;--accent:#8dbbe6;--holds:#7fd3a3;--holds-wash:#17382a;--fails:#f3a093;--fails-wash:#43211c;--open:#e2c36a;
--open-wash:#3a3115}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth;scroll-padding-top:3.4rem}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif;
overflow-wrap:break-word}
main,header.top,footer{max-width:1080px;margin:0 auto;padding:0 24px}
h1,h2,h3{font-family:ui-serif,"Iowan Old Style","Palatino Linotype",Palatino,Georgia,serif;line-height:1.2;
font-weight:600;letter-spacing:-.005em}
h1{font-size:clamp(1.6rem,4.2vw,2.5rem);margin:.25rem 0 .4rem;max-width:24em}
h2{font-size:1.5rem;margin:3.2rem 0 .3rem}
h3{font-size:1.12rem;margin:2rem 0 .6rem}
p{margin:.5rem 0;max-width:70ch}
a{color:var(--accent);text-underline-offset:.15em}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:3px}
code,kbd,.mono{font-family:ui-monospace,"SF Mono",Menlo,Consolas,monospace;font-size:.9em}
.soft{color:var(--soft)}.small{font-size:.86rem}
header.top{padding-top:2.6rem}
.kicker{color:var(--accent);font-weight:600;letter-spacing:.02em;margin:0}
.tiles{display:flex;flex-wrap:wrap;gap:1px;background:var(--line);
border:1px solid var(--line);border-radius:10px;overflow:hidden;margin:1.5rem 0 1.2rem}
.tiles>div{flex:1 1 145px;background:var(--card);padding:.75rem 1rem}
.tiles dt{color:var(--soft);font-size:.82rem}
.tiles dd{margin:.1rem 0 0;font-size:1.3rem;font-weight:600;line-height:1.25;font-variant-numeric:tabular-nums}
.tiles dd small{display:block;font-size:.8rem;font-weight:400;color:var(--soft)}
dl{margin:0}
.command{background:var(--wash);border:1px solid var(--line);border-radius:8px;padding:.6rem .9rem;margin:.6rem 0;
overflow-x:auto;white-space:pre}
nav{position:sticky;top:0;z-index:3;background:var(--paper);border-bottom:1px solid var(--line);margin-top:1.4rem}
nav ul{max-width:1080px;margin:0 auto;padding:0 24px;display:flex;gap:1.35rem;list-style:none;overflow-x:auto;
scrollbar-width:none}
nav a{display:block;padding:.65rem 0;white-space:nowrap;text-decoration:none;font-size:.93rem;color:var(--soft)}
nav a:hover{color:var(--ink)}
.problems{border:1px solid var(--open);background:var(--open-wash);border-radius:8px;padding:.7rem 1rem;margin:1.4rem 0}
.problems h2{font:600 1rem/1.4 system-ui,sans-serif;margin:0;color:var(--open)}
.problems ul{margin:.3rem 0 0;padding-left:1.2rem}
.chip{display:inline-block;min-width:6.6rem;border-radius:999px;padding:.12rem .7rem;font-size:.85rem;font-weight:600;
text-align:center;white-space:nowrap}
.chip.holds{color:var(--holds);background:var(--holds-wash)}
.chip.fails{color:var(--fails);background:var(--fails-wash)}
.chip.undecided{color:var(--open);background:var(--open-wash)}
.claims{list-style:none;margin:1.1rem 0 0;padding:0;border-top:1px solid var(--line)}
.claims>li{display:grid;grid-template-columns:7.4rem minmax(0,1fr) 250px;gap:.2rem 1.2rem;align-items:start;
padding:1rem 0;border-bottom:1px solid var(--line);break-inside:avoid}
.claims .said{margin:0;font-size:1.02rem}
.claims .why{margin:.25rem 0 0}
.claims .measured{text-align:right;font-variant-numeric:tabular-nums}
.claims .measured b{font-size:1.1rem}
.strip{display:block;width:100%;height:auto;overflow:visible}
.strip .rail{stroke:var(--line);stroke-width:1}
.strip .side{fill:var(--ink);fill-opacity:.06}
.strip .threshold{stroke:var(--ink);stroke-width:1.4;stroke-dasharray:3 2.4}
.strip .interval{fill:var(--accent);fill-opacity:.42}
.strip .estimate{fill:var(--accent)}
.strip .seed{fill:var(--ink);fill-opacity:.5}
.strip .tick{fill:var(--soft);font-size:11px}
.strip.holds .interval,.strip.holds .estimate{fill:var(--holds)}
.strip.fails .interval,.strip.fails .estimate{fill:var(--fails)}
.strip.undecided .interval,.strip.undecided .estimate{fill:var(--open)}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:8px;background:var(--card);margin:.9rem 0}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th,td{padding:.5rem .9rem;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
tbody tr:last-child>*{border-bottom:0}
thead th{font-weight:600;color:var(--soft);font-size:.84rem;vertical-align:bottom}
tbody th{font-weight:600}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
thead th.n{white-space:normal;min-width:5.6rem}
td small,th small{display:block;color:var(--soft);font-weight:400;font-size:.82rem}
td.same{color:var(--soft)}
th .drawn{display:block;text-align:left}
td.drawn{min-width:180px;width:30%;vertical-align:middle}
tbody th{min-width:8.5rem}
tr.main>*{background:var(--wash)}
.sticky th:first-child{position:sticky;left:0;background:var(--card);z-index:1}
.sticky tr.main th:first-child{background:var(--wash)}
td.long{min-width:13rem}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;list-style:none;margin:1rem 0 .4rem;padding:0;font-size:.9rem}
.legend li{display:flex;align-items:center;gap:.45rem}
.legend svg{width:28px;height:10px;flex:none}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,310px),1fr));gap:1.4rem 1.6rem;margin:1rem 0}
.plots figure,.wide{margin:0;min-width:0;break-inside:avoid}
.plot{display:block;width:100%}
@media screen and (prefers-color-scheme:dark){.plot,.legend svg{filter:brightness(1.3)}}
.wide{margin:1rem 0}
.narrow-only{display:none}
figcaption{color:var(--soft);font-size:.88rem;margin-top:.45rem;max-width:70ch}
figcaption b{color:var(--ink);display:block;font-size:.95rem}
.exhibits{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr));gap:1.6rem;margin:1rem 0;
align-items:start}
.panels{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,430px),1fr));gap:2rem;margin:1rem 0;
align-items:start}
.exhibits figure,.panels figure{margin:0;min-width:0;break-inside:avoid}
.exhibits img,.panels img{display:block;max-width:100%;height:auto;border-radius:6px}
.exhibits figure.broad,.panels figure.broad{grid-column:1/-1}
details{margin:.9rem 0}
summary{cursor:pointer;color:var(--accent);padding:.25rem 0;font-weight:500}
.set{columns:2;column-gap:2.4rem;font-size:.88rem;margin:.6rem 0;padding:0;list-style:none}
.set li{break-inside:avoid;display:flex;justify-content:space-between;gap:1rem;border-bottom:1px dotted var(--line);
padding:.18rem 0}
.set li span:last-child{text-align:right;overflow-wrap:anywhere}
footer{margin-top:4rem;padding-top:1.1rem;padding-bottom:2.6rem;border-top:1px solid var(--line);color:var(--soft);
font-size:.88rem}
@media (max-width:760px){
main,header.top,footer,nav ul{padding-left:16px;padding-right:16px}
header.top{padding-top:1.4rem}
.claims>li{grid-template-columns:minmax(0,1fr)}
.claims .measured{text-align:left;max-width:320px}
.wide-only{display:none}.narrow-only{display:block}
.set{columns:1}
h2{margin-top:2.4rem}
th,td{padding:.45rem .65rem}
}
@media print{
:root{color-scheme:light;--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--wash:#f4f4f4;--accent:#1d4468;
--holds:#17683f;--holds-wash:#fff;--fails:#a02a1c;--fails-wash:#fff;--open:#6d5200;--open-wash:#fff}
body{font-size:10.5pt}
main,header.top,footer{max-width:none;padding:0}
nav{display:none}
.chip{border:1px solid currentColor}
.scroll,.command{overflow:visible}
.command{white-space:pre-wrap}
table{font-size:8.5pt}
th,td{padding:2pt 4pt}
td small,th small,thead th{font-size:1em}
table.many{table-layout:fixed;font-size:6.5pt}
table.many th,table.many td{padding:2pt;overflow-wrap:anywhere}
table.many th:first-child{width:20%}
td.n,th.n{white-space:normal;min-width:0}
tbody th{min-width:0}
td.drawn,td.long{min-width:0}
.sticky th:first-child{position:static}
h2,h3,thead{break-after:avoid}
tr{break-inside:avoid}
.claims>li{grid-template-columns:7rem minmax(0,1fr) 190px}
.wide-only{display:block}.narrow-only{display:none}
details:not([open])>summary{display:none}
a{color:inherit}
}
"""
