# %% [markdown]
# # The equations, as functions
# Length reward, balanced advantage, clipped loss, the sampler's log-probabilities against the trainer's; then GRPO in twenty lines.
#
# Each equation of the paper ([arXiv:2506.18841](https://arxiv.org/abs/2506.18841)) is a pure function
# of arrays: no config, no run, no model where none is meant. This notebook takes seconds.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from lwz.learn import advantage, logprob, losses
from lwz.model import config, qwen
from lwz.programs import rollout as rollout_program
from lwz.reward import length
from lwz.rollout import local, sampler
from lwz.rollout import spec as spec_lib

plt.rcParams |= {'axes.spines.top': False, 'axes.spines.right': False, 'axes.grid': True}
plt.rcParams |= {'grid.alpha': 0.25, 'font.size': 9, 'figure.dpi': 90, 'legend.frameon': False}
jax.config.update('jax_platforms', 'cpu')  # small arrays: an accelerator would only be slower

# %% [markdown]
# ## Eq. 3: the length reward
#
# 1 within the range that the request asks for, falling linearly to 0 at no word and at $L_{max}$.
#
# $$r = \begin{cases} n / L_{lower} & n < L_{lower} \\ 1 & L_{lower} \le n \le L_{upper} \\
# (L_{max} - n) / (L_{max} - L_{upper}) & n > L_{upper} \end{cases}$$

# %%
words = np.arange(0, 15_000, 50)
figure, axes = plt.subplots(figsize=(7, 2.6), layout='constrained')
for lower, upper in ((800, 1_200), (3_000, 5_000), (9_000, 11_000)):
  reward = length.length_reward(words, lower, upper, 14_000)
  axes.plot(words, reward, label=f'{lower:,} to {upper:,} words')
axes.set(xlabel='words of the answer', ylabel='length reward', xlim=(0, 15_000))
axes.legend(loc='upper right', bbox_to_anchor=(1, 0.95))
plt.show()

# %% [markdown]
# ## Eq. 5: the balanced advantage
#
# Three rewards of a group of eight answers: lengths differ a lot, the writing reward hardly, the
# format is the same for all. The mean of the rewards follows the one with the largest spread. The
# paper normalises each reward within the group before it averages:
#
# $$A_i = \tfrac13 \sum_r \frac{R_{i,r} - mean_i R_{i,r}}{std_i R_{i,r}}$$
#
# so that the writing reward counts as much as the length.

# %%
scores_PGR = np.zeros((1, 8, 3))
scores_PGR[0, :, 0] = [0.1, 0.9, 0.3, 1.0, 0.2, 0.8, 0.4, 0.9]  # length
scores_PGR[0, :, 1] = [0.56, 0.50, 0.55, 0.49, 0.57, 0.52, 0.51, 0.48]  # writing
scores_PGR[0, :, 2] = 1.0  # format
ways = {
  'mean reward': advantage.mean_reward(scores_PGR)[0],
  'balanced (Eq. 5)': advantage.balanced(scores_PGR)[0],
}
figure, (left, right) = plt.subplots(
  1, 2, figsize=(9, 2.8), layout='constrained', width_ratios=(3, 2)
)
place, rewards = np.arange(8), ('length', 'writing')
each_GR = advantage.components(scores_PGR)[0]
for i, (name, values) in enumerate(ways.items()):
  left.bar(place + 0.38 * i - 0.19, values, 0.36, color=f'C{i}', label=name)
  follows = [np.corrcoef(values, each_GR[:, r])[0, 1] for r in range(2)]
  right.barh(np.arange(2) + 0.38 * i - 0.19, follows, 0.36, color=f'C{i}')
left.set(title='advantage of each answer', xlabel='answer', xticks=place)
left.legend(fontsize=8, loc='lower right')
right.set(title='correlation with each reward', yticks=range(2), yticklabels=rewards, xlim=(-1, 1))
right.invert_yaxis()
plt.show()

# %% [markdown]
# ## The clipped loss
#
# $$L = -\min(\rho A, clip(\rho, 1 - \epsilon, 1 + \epsilon) A), \qquad
# \rho = \pi(o_t) / \pi_{old}(o_t)$$
#
# Where a token has already moved further than $\epsilon$ in the direction in which its advantage
# points, its gradient is 0.

# %%
how = {'clip_low': 0.2, 'clip_high': 0.2, 'aggregate': losses.token_mean}
one_11 = jnp.ones((1, 1))


def loss_of(log_ratio, sign):
  return losses.grpo(log_ratio * one_11, 0 * one_11, sign * jnp.ones(1), one_11, **how)[0]


ratio = jnp.linspace(0.4, 1.7, 400)
figure, axes = plt.subplots(1, 2, figsize=(9, 2.6), layout='constrained')
for i, sign in enumerate((1.0, -1.0)):
  value, slope = jax.vmap(jax.value_and_grad(loss_of), (0, None))(jnp.log(ratio), sign)
  axes[0].plot(ratio, value, color=f'C{i}', label=f'A = {sign:+.0f}')
  axes[1].plot(ratio, slope, color=f'C{i}', label=f'A = {sign:+.0f}')
for ax, title in zip(axes, ('loss', 'gradient with respect to log π'), strict=True):
  ax.axvspan(0.8, 1.2, color='grey', alpha=0.12, linewidth=0)
  ax.set(title=title, xlabel='ratio ρ')
  ax.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## The sampler's log-probabilities against the trainer's
#
# The ratio is 1 before the first update only if both sides compute the same distribution: the
# sampler token by token, with a cache of keys and values, the trainer all tokens at once. In float32
# they agree to rounding. The right plot is a classical mistake: a trainer that forgets the
# temperature of the sampler, so that every ratio is wrong before anything is learnt.

# %%
TEMPERATURE, NUM_TOKENS, GROUP = 0.8, 24, 8
c = config.preset('micro')
policy = qwen.init(jax.random.key(0), c)
policy['embed'] = policy['embed'] * 6  # else a random model says everything alike
spec = spec_lib.EngineSpec(
  *(c, 4 * GROUP, 8, NUM_TOKENS),
  sampling=sampler.Sampling(TEMPERATURE, stop_ids=(0,)),
  exact=True,
)
engine = rollout_program.engine(spec)
prompts = [np.array(ids, np.int32) for ids in ([5, 6, 7, 8], [9, 10, 11], [12, 13], [14, 15, 16])]


def sample(params, step):
  """Returns G answers to each prompt: ids, log-probabilities, the mask of what was written."""
  asked = local.requests(prompts, num_samples=GROUP, max_tokens=NUM_TOKENS, seed=0, step=step)
  found = local.rollout(list(local.stream(engine, engine.reshard(params), asked)), NUM_TOKENS)
  # Rows of prompt and answer: the trainer reads both, and learns from what was written.
  ids_BT = np.zeros((len(asked), 8 + NUM_TOKENS), np.int32)
  old_BT, mask_BT = np.zeros_like(ids_BT, np.float32), np.zeros_like(ids_BT, bool)
  for b, request in enumerate(asked):
    start, end = len(request.prompt), len(request.prompt) + found.lengths[b]
    ids_BT[b, :end] = [*request.prompt, *found.ids[b, : found.lengths[b]]]
    old_BT[b, start:end], mask_BT[b, start:end] = found.logp[b, : found.lengths[b]], True
  return ids_BT, old_BT[:, 1:], mask_BT[:, 1:]


def scored(params, ids_BT, temperature=TEMPERATURE):
  """Returns the trainer's log-probability of every token but the first. [B, T - 1]"""
  hidden_BTD = qwen.forward(params, ids_BT[:, :-1], c)
  head_DV = qwen.head_weights(params, c)
  return logprob.token_logprob(
    hidden_BTD, head_DV, ids_BT[:, 1:], temperature=temperature, chunk=256
  )[0]


ids_BT, old_BT, mask_BT = sample(policy, step=0)
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout='constrained')
for ax, temperature in zip(axes, (TEMPERATURE, 1.0), strict=True):
  new_BT = np.asarray(scored(policy, ids_BT, temperature))
  gap = np.abs(new_BT - old_BT)[mask_BT].max()
  ax.plot([-12, 0], [-12, 0], color='grey', linewidth=1)
  ax.plot(old_BT[mask_BT], new_BT[mask_BT], '.', markersize=3)
  ax.set(title=f'trainer at {temperature}: largest gap {gap:.1e} nats')
  ax.set(xlabel=f'log-probability, sampler at {TEMPERATURE}', ylabel='trainer')
plt.show()

# %% [markdown]
# ## GRPO in twenty lines
#
# A random policy is paid for odd tokens. One step: sample groups,
# reward, compare within each group, one gradient of the clipped loss, one update of Adam.

# %%
optimizer = optax.adam(1e-2)


@jax.jit
def update(params, state, ids_BT, old_BT, mask_BT, advantage_B):
  def loss(params):
    return losses.grpo(scored(params, ids_BT), old_BT, advantage_B, mask_BT, **how)

  (_, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(params)
  change, state = optimizer.update(gradient, state, params)
  return optax.apply_updates(params, change), state, metrics


params, state, history = policy, optimizer.init(policy), []
for step in range(40):
  ids_BT, old_BT, mask_BT = sample(params, step)
  is_odd_BT = (ids_BT[:, 1:] % 2 == 1) & mask_BT
  reward_PG = (is_odd_BT.sum(1) / mask_BT.sum(1)).reshape(len(prompts), GROUP)
  advantage_B = advantage.group_relative(reward_PG).reshape(-1)
  params, state, metrics = update(params, state, ids_BT, old_BT, mask_BT, advantage_B)
  history.append(reward_PG.mean())

figure, axes = plt.subplots(figsize=(7, 2.4), layout='constrained')
axes.plot(history)
axes.set(xlabel='step', ylabel='share of odd tokens', ylim=(0, 1.02))
plt.show()
print(f'share of odd tokens: {history[0]:.2f} at the first step, {history[-1]:.2f} at the last')
