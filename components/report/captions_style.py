"""How the page of captions looks."""

STYLE = """
:root {
  --page: #f6f5f1; --card: #ffffff; --ink: #1d2126; --soft: #5e6670; --line: #e2dfd6; --accent: #0b6e99;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1e2226; --ink: #eceae4; --soft: #a2a9b1; --line: #31373d; --accent: #63b8dd;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 90rem;
  background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
h1 { font-size: clamp(1.5rem, 4vw, 2.2rem); line-height: 1.2; margin: 0 0 1rem; letter-spacing: -0.01em; }
h2 { font-size: 1.3rem; margin: 0; }
.summary {
  display: grid; gap: 1.5rem 3rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr));
}
.summary p { margin: 0 0 1rem; color: var(--soft); max-width: 60ch; }
dl { display: flex; flex-wrap: wrap; gap: 0.75rem 1.75rem; margin: 0; }
dt { font-size: 0.8rem; color: var(--soft); }
dd { margin: 0; font-size: 1.4rem; font-weight: 600; font-variant-numeric: tabular-nums; }
dl div:first-child dd { color: var(--accent); }
figure { margin: 0; }
svg { display: block; width: 100%; height: auto; border-bottom: 1px solid var(--line); }
rect { fill: var(--accent); opacity: 0.75; }
line { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 4 3; }
figcaption {
  display: flex; justify-content: space-between; gap: 1rem;
  font-size: 0.8rem; color: var(--soft);
}
section { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1.25rem; }
.range { margin: 0 0 1rem; color: var(--soft); font-size: 0.9rem; }
.cards {
  display: grid; gap: 1.25rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr));
}
article { background: var(--card); border: 1px solid var(--line); border-radius: 12px; overflow: hidden; }
article img { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; background: var(--line); }
.words { padding: 0.9rem 1rem 1rem; }
.caption {
  margin: 0 0 0.5rem; font-size: 1.1rem; line-height: 1.35; font-weight: 600; overflow-wrap: anywhere;
}
.numbers {
  margin: 0 0 0.75rem; display: flex; flex-wrap: wrap; gap: 0.2rem 1rem;
  font-size: 0.85rem; color: var(--soft);
}
.numbers b { color: var(--accent); font-variant-numeric: tabular-nums; }
.people { margin: 0; font-size: 0.8rem; color: var(--soft); }
ul { margin: 0.1rem 0 0; padding-left: 1.1rem; font-size: 0.9rem; overflow-wrap: anywhere; }
.id { margin: 0.7rem 0 0; font-size: 0.75rem; color: var(--soft); }
"""
