"""Messages become the ids that the policy was trained on, by the one renderer."""

import concurrent.futures
import copy
import threading

import pytest

from lwz.data import chat_template, templates, tokenizer
from lwz.serving import prompts
from tests.serving import served

CHATML = (
  "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATES = {
  'plain': CHATML,
  'strips': CHATML.replace("m['content']", "m['content'] | trim"),
  'odd': CHATML.replace("m['content']", "m['content'].replace('Zw2', 'z')"),
}
REQUESTS = ('Write.', '  two  \n lines \n', '写一篇', 'Zw2 <|im_end|> {it}', '')


@pytest.fixture
def rendered(monkeypatch):
  """The number of conversations that the tokenizer's template has rendered, in this process."""
  seen = []

  def chat(tok, conversations):
    seen.extend(conversations)
    return [
      tok.apply_chat_template(list(one), tokenize=False, add_generation_prompt=True)
      for one in conversations
    ]

  monkeypatch.setattr(tokenizer, 'chat', chat)
  monkeypatch.setattr(tokenizer.chat_ids, '__defaults__', (chat,))
  return seen


def chatty(name):
  tok = copy.deepcopy(served.tok())
  tok.chat_template = TEMPLATES[name]
  return tok


@pytest.mark.parametrize('style', ['think', 'direct'])
@pytest.mark.parametrize('name', TEMPLATES)
def test_a_single_message_has_the_ids_of_the_renderer(rendered, name, style):
  tok = chatty(name)
  found = prompts.Prompts(tok, style, 'chat_short')
  before = len(rendered)
  ids = [found.ids([('user', request)]) for request in REQUESTS]
  assert (len(rendered) == before) == (name != 'odd')  # no process for one, where that is sure
  assert ids == templates.prompt_ids(tok, REQUESTS, style, 'chat_short')


def test_of_a_text_that_is_far_too_long_the_beginning_is_read(monkeypatch):
  read, ids = [], templates.ids
  monkeypatch.setattr(templates, 'ids', lambda tok, texts: read.extend(texts) or ids(tok, texts))
  found = prompts.Prompts(served.tok(), 'think', 'pocket')
  long, many = (('user', 'the sea ' * 1_000),), (('user', 'the sea ' * 60),) * 9
  for prompt in ('the sea ' * 1_000, (('system', 'Write.'), *long), many):
    assert len(found.ids(prompt, 20)) > 20
  assert max(map(len, read)) == 640
  assert found.ids('the sea ' * 40, 20) == ids(served.tok(), ['the sea ' * 40])[0]  # said exactly
  assert found.ids((1, 2), 1) == [1, 2]


def test_several_turns_are_those_of_an_exports_template(rendered):
  tok = chatty('plain')
  turns = [('system', 'Be brief.'), ('user', 'Write.'), ('assistant', 'No.'), ('user', 'Do.')]
  found = prompts.Prompts(tok, 'think', 'chat_short').ids(turns)
  carried, exact = chat_template.carried(tok, 'think', 'chat_short')
  assert exact
  told = [{'role': role, 'content': text} for role, text in turns]
  text = carried.apply_chat_template(told, tokenize=False, add_generation_prompt=True)
  assert found == tok.encode(text, add_special_tokens=False)
  with pytest.raises(ValueError, match='the last one must be of the user'):
    prompts.Prompts(tok, 'think', 'chat_short').ids(turns[:3])


def test_what_a_process_renders_holds_up_nothing(monkeypatch):
  """Two chats of several turns are rendered at a time, and a single request meanwhile."""
  found = prompts.Prompts(chatty('plain'), 'think', 'chat_short')
  turns = [('user', 'Write.'), ('assistant', 'No.'), ('user', 'Do.')]
  both, gate = threading.Barrier(3), threading.Event()
  assert found.is_slow(turns) and not found.is_slow(turns[:1]) and not found.is_slow('Write.')

  def chat(tok, conversations):
    both.wait(10)
    assert gate.wait(10)
    return [tok.apply_chat_template(one, tokenize=False) for one in conversations]

  monkeypatch.setattr(tokenizer, 'chat', chat)
  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    slow = [pool.submit(found.ids, turns) for _ in range(2)]
    both.wait(10)
    try:
      assert pool.submit(found.ids, turns[:1]).result(10)
      assert pool.submit(found.ids, 'Write.').result(10)
      assert not any(one.done() for one in slow)
    finally:
      gate.set()
    assert slow[0].result() == slow[1].result()


@pytest.mark.parametrize('system', ['', 'Be brief.', '写'])
def test_a_system_message_is_that_of_an_exports_template(rendered, system):
  tok = served.tok()
  found = prompts.Prompts(tok, 'think', 'paper').ids([('system', system), ('user', 'Write.')])
  carried, _ = chat_template.carried(tok, 'think', 'paper')
  told = [{'role': 'system', 'content': system}, {'role': 'user', 'content': 'Write.'}]
  text = carried.apply_chat_template(told, tokenize=False, add_generation_prompt=True)
  assert found == tok.encode(text, add_special_tokens=False, split_special_tokens=True)


def test_a_reward_model_reads_what_was_asked_for():
  found = prompts.Prompts(served.tok(), 'think', 'pocket')
  turns = [('system', 'the sea'), ('user', 'rivers'), ('assistant', 'No.'), ('user', 'stones')]
  assert found.request(turns) == 'the sea\n\nrivers\n\nstones'
  assert found.request('the sea') == found.request(served.tok().encode('the sea')) == 'the sea'


def test_a_chat_without_a_template_is_refused_in_a_sentence():
  with pytest.raises(ValueError, match='has no chat template'):
    prompts.Prompts(served.tok(), 'think', 'chat')
