"""How judgement becomes change."""
