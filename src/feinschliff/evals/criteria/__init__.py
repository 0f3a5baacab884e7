"""OpenAI's graders (`core.criteria`): what of them needs no model. `app.grading` puts them to work."""
