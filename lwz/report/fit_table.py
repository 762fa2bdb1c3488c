"""Table of a preflight, on the terminal and as Markdown. A record is preflight's JSON."""

import rich.console
import rich.table

HEADER = (
  *('phase', 'program', 'fits', 'needed', 'of', 'arguments', 'temporaries', 'peak', 'residents'),
  *('PFLOP', 'moved', 'sent', 'seconds', 'bound by', 'calls', 'compile s'),
)
_UNITS = {2**30: 'G', 2**20: 'M', 2**10: 'K', 1: ''}
LEGEND = (
  'Bytes of one device (G = GiB). needed = peak (arguments and what lives beside them at the worst '
  'moment) + residents (what others keep there meanwhile). temporaries: as XLA counts them, more '
  'than live at once. PFLOP: of all devices, one call. moved, sent: per device and call, through '
  'its memory and to other devices. seconds: of one call, estimated. calls: per step, at most.'
)


def _rows(record: dict) -> list[tuple[str, ...]]:
  rows: list[tuple[str, ...]] = []
  for one in record['phases']:
    times = one['seconds']
    bound = max(times, key=times.get) if times else ''
    rows.append(
      (
        one['phase'],
        one['name'],
        'yes' if one['fits'] else 'NO',
        _size(one['needed']),
        _size(record['capacity']),
        _size(one['arguments']),
        _size(one['temporaries']),
        _size(one['peak']),
        ', '.join(f'{name} {_size(size)}' for name, size in one['residents'].items()) or '-',
        f'{one["flops"] / 1e15:.3g}',
        _size(one['moved']),
        _size(sum(c['bytes'] for c in one['collectives'])),
        f'{times[bound]:.3g}' if times else '-',
        bound or '-',
        f'{one["calls"]:,}',
        f'{one["lower_seconds"] + one["compile_seconds"]:.0f}',
      )
    )
  return rows


def _size(size: float | None) -> str:
  """`12.34G`, `5.6M`: binary units."""
  if not size:
    return '?' if size is None else '0'
  unit = next((unit for unit in _UNITS if size >= unit / 10), 1)
  return f'{size / unit:.{2 if unit == 2**30 else 1}f}{_UNITS[unit]}'


def _headline(record: dict) -> str:
  mesh = ' x '.join(f'{axis} {size}' for axis, size in record['mesh'].items()) or '1'
  fits = 'fits' if record['fits'] else 'does NOT fit'
  return (
    f'{record["experiment"]} {fits} {record["topology"]}: {record["devices"]} devices with '
    f'{_size(record["capacity"])} each, mesh {mesh}'
  )


def _advice(record: dict) -> list[str]:
  """Returns a line per suggested change, with the result of compiling it."""
  lines = []
  for name, tried in record['remedies'].items():
    for one in tried:
      keys = ' '.join(f'--config.{key}={value}' for key, value in one['keys'].items())
      proof = 'not compiled'
      if came := one['compiled']:
        said = 'fits' if came['fits'] else 'still too large'
        proof = f'compiled: {came.get("refused", said)}, {_size(came["needed"])}'
      lines.append(f'{name}: {keys} ({one["reason"]}; {proof})')
    if not tried:
      lines.append(f'{name}: no change of one key suffices; take larger chips, or a smaller model')
  return lines


def markdown(record: dict) -> str:
  """Returns the headline, the command, a row per program, suggestions, the largest collectives."""
  lines = [f'# {_headline(record)}', '', f'`{record["command"]}`', '']
  lines += [', '.join(f'{name} {version}' for name, version in record['versions'].items()), '']
  lines += [', '.join(f'{key} {value}' for key, value in record['shapes'].items()), '']
  lines += [f'| {" | ".join(HEADER)} |', '|' + ' --- |' * len(HEADER)]
  lines += [f'| {" | ".join(row)} |' for row in _rows(record)]
  lines += ['', LEGEND, '', f'Seconds: {record["roofline"]}', '']
  if advice := _advice(record):
    lines += ['What to change:', '', *[f'* {line}' for line in advice], '']
  lines += ['Largest collectives of one call:', '']
  lines += ['| program | kind | along | devices | result | count | sent |', '|' + ' --- |' * 7]
  for one in record['phases']:
    lines += [
      f'| {one["name"]} | {c["kind"]} | {", ".join(c["axes"])} | {c["group"]} | {c["shape"]} '
      f'| {c["count"]:,} | {_size(c["bytes"])} |'
      for c in one['collectives'][:6]
    ]
  return '\n'.join(lines) + '\n'


def show(record: dict) -> None:
  """Prints the same on the terminal, without the collectives."""
  console = rich.console.Console()
  if not console.is_terminal:
    console = rich.console.Console(width=200)
  table = rich.table.Table(title=_headline(record), title_justify='left', caption=LEGEND)
  for name in HEADER:
    table.add_column(name)
  for row in _rows(record):
    table.add_row(*row, style='' if row[2] == 'yes' else 'red')
  console.print(table)
  print(record['roofline'])
  for line in _advice(record):
    print(f'  {line}')
