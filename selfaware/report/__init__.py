"""KNOWS Records: the finished numbers of an experiment, and how to show them. Must not know a model or torch.

`page` holds the nouns an experiment fills in; `summary` writes them as JSON and CSV; `figures` draws them, with a module
for each kind of panel (`forest`, `curves`, `heat`, `ranked`); `html` makes the page that a person opens:

    from selfaware.report.html import write_page
    path = write_page(page, folder)  # report.html, summary.json, rows.csv, figures/*.pdf
"""
