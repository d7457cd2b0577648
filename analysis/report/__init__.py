"""The report of a study: its trainings, what they cost and how to repeat them, as a page, as Markdown, for a paper."""
