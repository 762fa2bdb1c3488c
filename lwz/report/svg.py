"""Conversion of matplotlib's SVG files to elements of an HTML page."""

import hashlib
import html
import re

# (colour, name of the CSS variable that may replace it): a page restyles what it inlines, and a
# plot that stands alone shows the colour given here, chosen to be seen on white and on black.
SERIES = (
  ('#4c78d6', '--series-1'),
  ('#e0853a', '--series-2'),
  ('#35a077', '--series-3'),
  ('#a066cf', '--series-4'),
  ('#d6566a', '--series-5'),
  ('#2b9fb3', '--series-6'),
)
INK, TEXT = ('#777778', '--ink'), ('#808081', '--muted')
AXIS, GRID, BAND = ('#8c8c8d', '--axis'), ('#90909f', '--grid'), ('#7f8fa1', '--band')
_FONT = 'var(--sans, system-ui, sans-serif)'


def inline(svg: str, title: str) -> str:
  """Returns the `<svg>` element of a file: fluid in width, restylable, labelled, with unique ids.

  Colours of this module become CSS variables, fonts the page's, and style elements, which would
  reach the whole page, go. Ids carry a hash of the content. Text is left as it is.
  """
  svg = svg[svg.index('<svg') :].strip()
  svg = re.sub(r'<(metadata|style)\b.*?</\1>\s*', '', svg, flags=re.DOTALL)
  head = svg[: svg.index('>') + 1]
  # Only what is referred to keeps an id, made of the content: plots in one page cannot clash.
  mark = hashlib.sha256(svg.encode()).hexdigest()[:10]
  used = set(re.findall(r'<[^>]*(?:href="#|url\(#)([^")]+)', svg))

  def restyle(tag: re.Match) -> str:
    out = tag[0].replace('xlink:href', 'href')
    out = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else '', out)
    out = re.sub(r'( id="|href="#|url\(#)', rf'\g<1>c{mark}-', out)
    out = re.sub(r'font-family:[^;"]*', f'font-family: {_FONT}', out)
    out = re.sub(r'(font:[^;"]*?px)[^;"]*', rf'\1 {_FONT}', out)
    out = re.sub(r' transform="rotate\(-0 [^"]*"', '', out)
    out = re.sub(r'(\d+\.\d\d)\d+', r'\1', out)
    for colour, name in (*SERIES, TEXT, INK, AXIS, GRID, BAND):
      out = out.replace(colour, f'var({name}, {colour})')
    return out

  body = re.sub(r'<[^>]*>', restyle, svg[len(head) :])
  body = re.sub(r'\s*\n\s*', '\n', re.sub(r'<defs>\s*</defs>|<g/>', '', body))
  (box,) = re.findall(r'viewBox="[^"]*"', head)
  name = html.escape(title, quote=True)
  return f'<svg {box} class="curve" role="img" aria-label="{name}" stroke-linejoin="round">{body}'
