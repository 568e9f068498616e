"""Why a number is what it is: `unloc diagnose` takes a file of predictions apart (docs/diagnosis.md).

From files to a page: `inputs` reads, `matches` … `videos` and `moments` compute, `action_sections` and
`moment_sections` make tables, plots and readings of it, `text` and `page` show them, `run` is the command.
"""

PROTOCOLS = ("activitynet", "thumos14", "moment-retrieval", "qvhighlights")
