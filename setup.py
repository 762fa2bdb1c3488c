"""What lwz is called and what it needs."""

from setuptools import find_packages, setup

# Each core name is imported by lwz itself, or stands under a name that is.
CORE = [
  # what computes
  'jax>=0.10,<0.12',
  'flax',
  'optax',
  'numpy',
  # what keeps
  'orbax-checkpoint',
  'tensorstore',
  'safetensors',
  'huggingface-hub',
  'etils[epath]',
  'fsspec',
  # what reads and writes text
  'transformers',
  'tokenizers',
  'regex',
  'grain',
  'jinja2',
  'markupsafe',
  # what measures: intervals, connected groups of players
  'scipy',
  # what says which run, and shows it
  'ml-collections',
  'absl-py',
  'rich',
  'tensorboardX',
  'matplotlib',
  # shapes in signatures; endpoints
  'jaxtyping',
  'httpx2',
]

EXTRAS = {
  'test': [
    'pytest',
    'pytest-xdist',
    'beartype',
    'hypothesis',
    'ruff',
    'mypy',
    # Notebooks, see notebooks/build.py.
    'jupytext',
    'nbclient',
    'nbformat',
    'ipykernel',
    'gguf',
    # The server, and its clients.
    'starlette',
    'uvicorn',
    'h11',
    'pydantic',
    'prometheus-client',
    'openai',
    # The build backend, so that the lock alone suffices to install lwz without build isolation.
    'setuptools',
  ],
  'data': ['pyarrow'],
  'track': ['wandb', 'trackio'],  # sinks of metrics and samples beside TensorBoard
  'gguf': ['gguf'],  # models in GGUF files
  'serve': ['starlette', 'uvicorn', 'h11', 'pydantic', 'prometheus-client'],
  'eval': ['krippendorff'],  # agreement of people
  'cluster': ['submitit'],  # jobs of SLURM, for sweeps
  'notebooks': ['jupytext', 'nbclient', 'nbformat', 'ipykernel'],
  # One of these per environment.
  'cuda12': ['jax[cuda12]'],
  'cuda13': ['jax[cuda13]'],
  'tpu': ['jax[tpu]'],
  # References that some tests compare with; never imported by lwz, never in the lock.
  'parity': ['torch', 'evalica', 'peft'],
}

setup(
  name='lwz',
  version='0.2.0',
  description='LongWriter-Zero, end to end, in pure-functional JAX',
  license='Apache-2.0',
  license_files=['LICENSE'],
  python_requires='>=3.11',
  # Experiments lie beside lwz wherever it is installed: what they need is named by their files.
  packages=find_packages(include=['lwz', 'lwz.*', 'experiments', 'experiments.*']),
  package_data={
    'lwz.evals': ['*.jsonl'],
    'lwz.report': ['*.jinja'],
    'lwz.serving': ['*.html'],
    'experiments': ['data/*.jsonl'],
  },
  install_requires=CORE,
  extras_require=EXTRAS,
)
