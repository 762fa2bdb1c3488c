"""Grammar checks on the function words of a text, in English and Chinese.

No model and no dictionary: a text whose words were sampled or shuffled lacks function words, or has
them where they cannot stand.
"""

import collections
import itertools
import re
from collections.abc import Sequence

import numpy as np

from lwz import text as texts

FEW = 40  # words below which a result is NaN
USUAL_LATIN, USUAL_HAN = 0.4, 0.2  # share of function words in prose

# Words that open an English noun phrase, and words that cannot follow them.
_OPENING = 'a an the my your its our their'
_CLOSED = """
  a an the my your his her its our their this these those of to in on at by for with from into and
  or but nor than if as is are was were be been am has have had do does did will would shall should
  can could may might must he she it they we you i him them us not that which who whom because while
  when where there then so
"""
_OPENS, _NEVER_NEXT = frozenset(_OPENING.split()), frozenset(_CLOSED.split())

# Chinese: particles that begin no clause (了解, 着急 and 的确 do) and follow no such word, words
# that end no clause, words that are not said twice.
_BOUND_HAN = re.compile('[的了着们吗呢吧么把被很最或每这和与而但也不从都就]')
_WRONG_HAN = re.compile(
  '^(?:的(?![确士])|了(?![解不却结如然])|着(?![急手眼重火陆装力实凉迷])|[们吗呢吧么])'
  '|[的吗呢吧把被很最每或也不](?=[的们])'
  '|[把被很最每或和与而但也](?=[吗呢吧了们着么])'
  '|([是在和与也都就被从而但])(?=\\1)'
  '|[把被和与从](?=[和与也都但而很])'
  '|[把被很最或每这]$'
)
# Pairs of characters that any Chinese text is full of, whatever its subject.
_PAIRS = """
  我们 他们 你们 自己 一个 这个 那个 什么 没有 可以 因为 所以 但是 如果 虽然 不过
  而且 或者 以及 已经 还是 就是 不是 只是 可能 应该 需要 必须 能够 通过 由于 对于
  关于 根据 作为 成为 认为 之间 之后 以后 以前 时候 时间 问题 方面 其中 其他 许多
  很多 不同 一些 一种 一样 一定 一直 这些 那些 这样 那样 怎么 为了 开始 进行 发展
  社会 国家 中国 世界 人们 生活 工作 学习 情况 地方 出来 起来 下来 过去 现在 今天
  知道 觉得 看到 发现 告诉 喜欢 希望 非常 特别 十分 比较 更加 甚至 然而 因此 此外
  同时 同样 例如 往往 总是 常常 有些 有人 有的 也是 都是 还有 只有 所有 每个 任何
  各种 主要 重要 影响 作用 提供 提高 增加 减少 使用 研究 方法 过程 结果 条件 技术
  经济 文化 历史 城市 环境 管理 系统 数据 信息 单位 部门 地区 的时 的是 了一 是一
  也不 不会 不能 不知 在这 有一 一年 一条 一次 一天 一方 另一 的人 的地 着的 里的
  上的 中的 来的 的话 说的 得到 变得 显得 使得 却没 多少 那里 这里 哪里 前面 后来
  后面 上面 下面 里面 先生 老师 学生 孩子 父亲 母亲 朋友 大家 别人 东西 事情 心里
  手里 眼睛 声音 感到 想到 听到 来到 回到 走到 看见 听见 成了 到了 为一 这一 那一
  每一 第一 第二 几个 两个 三个 之一 之中 以来 并不 并且 只要 只能 就会 就像 仿佛
  似乎 也许 大概 终于 突然 忽然 渐渐 慢慢 仍然 依然 究竟 到底 其实 确实 当然 于是
"""
_FAMILIAR = frozenset(_PAIRS.split())
# The shares of these that stand wrong where the words of prose were shuffled, and the number of
# them below which a share says nothing.
SHUFFLED_LATIN, SHUFFLED_HAN = 0.35, 0.07
MIN_LATIN, MIN_BOUND, MIN_HAN = 12, 40, 150
USUAL_FAMILIAR = 0.05  # of the pairs of Han, at least, in prose

_CLAUSE = re.compile(r'[。，、；：！？…,.;:!?\n“”"《》（）()]+')
_HAN_RUN = re.compile(f'[{texts.CHARACTERS}]+')
_LATIN_WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")


def function_words(words: Sequence[str]) -> float:
  """Returns the share of function words among lower-case words, over that of usual prose.

  About 1 in prose, near 0 in a list of keywords; NaN below FEW words.
  """
  counts = collections.Counter(words)
  han = latin = little = 0
  for word, count in counts.items():
    if word[0] >= texts.CHARACTERS[0]:
      han += count
    elif word[0].isalpha():
      latin += count
    little += count * (word in texts.STOP_WORDS)
  usual = USUAL_LATIN * latin + USUAL_HAN * han
  return little / usual if han + latin >= FEW else np.nan


def disorder(text: str) -> float:
  """Returns how far words stand where they cannot: 0 in prose, about 1 if its words are shuffled.

  English: how often an article or possessive stands before another function word or at the end of a
  clause (`the of`, `a is`), over that of shuffled prose. Chinese: how often a particle begins a
  clause or follows another (`，的`, `的的`) or a word such as 把 ends one; or the lack of the pairs
  of characters that any text is full of. NaN in a text with few words of all these.
  """
  bound = wrong = bound_han = wrong_han = han = familiar = 0
  for clause in _CLAUSE.split(text):
    words = _LATIN_WORD.findall(clause.lower())
    for i, word in enumerate(words):
      if word in _OPENS:
        bound += 1
        wrong += i + 1 == len(words) or words[i + 1] in _NEVER_NEXT
    for run in _HAN_RUN.findall(clause):
      han += len(run)
      familiar += sum(a + b in _FAMILIAR for a, b in itertools.pairwise(run))
      bound_han += len(_BOUND_HAN.findall(run))
    wrong_han += len(_WRONG_HAN.findall(clause.strip()))
  if bound < MIN_LATIN and bound_han < MIN_LATIN and han < MIN_HAN:
    return np.nan
  rates = [
    wrong / max(bound, MIN_LATIN) / SHUFFLED_LATIN,
    wrong_han / max(bound_han, MIN_BOUND) / SHUFFLED_HAN,
    1.0 - familiar / han / USUAL_FAMILIAR if han >= MIN_HAN else 0.0,
  ]
  return float(max(rates))


def density(words: Sequence[str]) -> float:
  """Returns the share of a text that is its most frequent content word, or its most frequent
  pair of neighbours with content (in Chinese, pair or four of characters) if that is more.

  (n - sqrt(n)) * size / len(words) for n occurrences, one standard deviation below the share, so
  that a short text is not accused of its subject. Of lower-case words; NaN below FEW of them.
  """
  if len(words) < FEW:
    return np.nan
  singles = collections.Counter(words)
  top = max((n for word, n in singles.items() if _is_content(word)), default=0)
  found = [top - top**0.5]
  for size in (2, 4):
    runs = collections.Counter(zip(*(words[i:] for i in range(size)), strict=False))
    fit = (n for run, n in runs.items() if n > 1 and _are_content(run))
    found.append(size * max((n - n**0.5 for n in fit), default=0.0))
  return float(max(found)) / len(words)


def _is_content(word: str) -> bool:
  return word[0].isalpha() and word[0] < texts.CHARACTERS[0] and word not in texts.STOP_WORDS


def _are_content(run: tuple[str, ...]) -> bool:
  if all(word[0] >= texts.CHARACTERS[0] for word in run):
    return texts.STOP_WORDS.isdisjoint(run)
  return len(run) == 2 and all(map(_is_content, run))
