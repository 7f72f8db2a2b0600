"""Who chooses the next task: replay, editors, adversaries, domain randomisation."""
