"""Memory plan of a step: its programs in order, and what the devices hold while each runs."""

from collections.abc import Mapping

from lwz.programs import program
from lwz.programs.cost import fit

# Program -> the part of a step that it is.
PARTS = {
  'reshard': 'write',
  'prefill': 'write',
  'decode': 'write',
  'score': 'judge',
  'likelihood': 'judge',
  'judge': 'judge',
  'policy_judge': 'judge',  # by the bf16 copy of the policy, made and freed as that of writing is
  'logprob': 'learn',
  'reference': 'learn',
  'teacher': 'learn',
  'grpo': 'learn',
  'pretrain': 'learn',
  'sft': 'learn',
  'reward_model': 'learn',
  'evaluate': 'measure',
}
TRAINERS = ('grpo', 'pretrain', 'sft', 'reward_model')
FIXED = ('reference', 'teacher', 'likelihood', 'judge')  # models that stay beside the policy
TAKE_MASTERS = ('reshard', 'evaluate', 'logprob')


def plan(
  programs: Mapping[str, program.Program], calls: Mapping[str, int] | None = None
) -> list[fit.Entry]:
  """Returns a run's programs, each with what stays beside it, in the order of a step.

  fp32 masters and the optimiser's state stay always, a policy's reward model, reference, teacher,
  judge and model of the reward `likelihood`, where it has them, from the first step to the last, on
  the same devices. So does the frozen base of adapters, which is the reference, too. The bf16 copy
  and the cache of writing are made and freed inside that part. Programs are at the largest shapes
  that they meet; `calls` are per step, at most, by name, 1 where not named.
  """
  trainer = next(programs[name] for name in TRAINERS if name in programs)
  state = trainer.abstract_args[0]
  base = trainer.abstract_args[len(trainer.abstract_args) - trainer.frozen :]
  is_rl = 'grpo' in programs
  found = []
  for name, one in programs.items():
    residents = {}
    if one is not trainer:
      # What takes the masters as its argument finds only the optimiser's state beside it.
      takes_masters = name in TAKE_MASTERS or not (is_rl or name in FIXED)
      kept = {'masters and optimiser': state}
      residents = {'optimiser': state.opt_state} if takes_masters else kept
    if is_rl and 'score' in programs and name != 'score':
      residents['reward model'] = programs['score'].abstract_args[0]
    if base and not one.frozen and name != 'reference':
      residents['base'] = base
    for other in FIXED:
      is_base = base and other == 'reference'
      if other in programs and name != other and not is_base:
        residents[other] = programs[other].abstract_args[0]
    if name == 'prefill' and 'decode' in programs:
      residents['cache'] = programs['decode'].abstract_args[1]
    part = PARTS.get(name, name)
    found.append(fit.Entry(part, one, residents, (calls or {}).get(name, 1)))
  order = list(dict.fromkeys([*PARTS.values(), *(entry.part for entry in found)]))
  return sorted(found, key=lambda entry: order.index(entry.part))
