"""Diagnosis of a score: `unloc diagnose` analyses a file of predictions (docs/diagnosis.md).

From files to a page: `inputs` reads, `matches` … `videos` and `moments` compute, `action_sections` and
`moment_sections` turn this into tables, plots and readings, `text` and `page` show them, `run` is the command.
"""

PROTOCOLS = ("activitynet", "thumos14", "moment-retrieval", "qvhighlights")
