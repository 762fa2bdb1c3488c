"""From conversations of users to a set of writing prompts, each with its range of words."""
