"""The likelihood reward: what is asked of the model, and what its answers are worth."""

import numpy as np
import pytest

from lwz import types
from lwz.reward import components, likelihood
from lwz.reward import format as format_lib

ODE, SEA = (types.Prompt(x, f'Write about {x}.', 1, 9, references=('bad', x * 3)) for x in 'os')


def sample(prompt, think):
  text = f'<think>{think}</think>\n<answer>Text.</answer>' if think else 'broken'
  return components.Sample(prompt, text, format_lib.parse(text, 'think'))


def model(asked):
  """A thought is worth 0.1 nat per letter, the request alone -2 and -3."""
  model.asked = asked
  alone = {ODE.text: -2.0, SEA.text: -3.0}
  return np.array([alone[text] + 0.1 * len(think or '') for text, think, _ in asked])


def test_the_gain_is_over_the_request_alone_which_is_asked_once():
  samples = [sample(ODE, 'ab'), sample(ODE, 'abcd'), sample(SEA, ''), sample(SEA, 'abc')]
  found = likelihood.gain(samples, mean_logprob=model)
  np.testing.assert_allclose(found, [0.2, 0.4, np.nan, 0.3])
  assert model.asked == [
    *((ODE.text, 'ab', 'ooo'), (ODE.text, 'abcd', 'ooo'), (SEA.text, 'abc', 'sss')),
    *((ODE.text, None, 'ooo'), (SEA.text, None, 'sss')),
  ]
  rewards = likelihood.reward(samples, mean_logprob=model)
  with_, without = np.exp([-1.8, -1.6, np.nan, -2.7]), np.exp([-2.0, -2.0, np.nan, -3.0])
  np.testing.assert_allclose(rewards[[0, 1, 3]], (with_ / (with_ + without))[[0, 1, 3]])
  assert rewards[2] == 0  # broken


def test_a_model_that_cannot_say_masks():
  def no(asked):
    return np.full(len(asked), np.nan)

  found = likelihood.reward([sample(ODE, 'a'), sample(ODE, '')], mean_logprob=no)
  np.testing.assert_array_equal(found, [np.nan, 0.0])
  model.asked = 'nothing'
  assert likelihood.reward([sample(ODE, '')], mean_logprob=model).tolist() == [0.0]
  assert model.asked == 'nothing'


@pytest.mark.parametrize('references', [(), ('text', ' ')])
def test_a_prompt_without_a_true_text_is_refused(references):
  prompt = types.Prompt('p7', 'Write about mills.', 1, 9, references=references)
  with pytest.raises(ValueError, match=r"'Write about mills.' \(id 'p7'\) has no references: add"):
    likelihood.reward([sample(prompt, 'a')], mean_logprob=model)
