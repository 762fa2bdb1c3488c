"""Hugging Face checkpoints, in and out."""

from lwz.store.hf.checkpoint import load as load
from lwz.store.hf.checkpoint import local as local
from lwz.store.hf.checkpoint import save as save
