"""A family's runs beside each other and beside the paper's: table, picture, figures for programs.

``python -m components.comparison rows.json FOLDER`` makes it; pipelines.comparison writes rows.json.
"""
