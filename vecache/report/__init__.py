"""Results for people and other programs: Arrow, files, HTML, pictures."""
