"""The report's page: what a run came to, put into one self-contained HTML file. A module a section."""
