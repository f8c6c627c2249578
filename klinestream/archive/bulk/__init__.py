"""The exchange's bulk files of past days into the archive: each checked as a whole before anything of it counts."""
