"""The prompt funnel: from conversations of users to writing prompts, each with a range of words."""
