"""The page of a result: one HTML file with everything in it, that any browser shows without a network.

`write_page(result, path, language)` writes it, `to_html` returns it. A kind of result has

    a line in KINDS (kinds.py): its type, and the module that tells its page
    a module such as trace.py here: `tell(result, say) -> Told`, its data and texts
    a style sheet static/kinds/NAME.css, if it needs rules of its own
    a module static/kinds/NAME.js: calls `run({...})` of static/frame.js, whose first comment lists what it takes

and may use the modules of static/ that draw: grid.js (cells), charts.js, area.js, inspect.js. static/page.css has the
colours of the four states, and `--prompt`, the blue of a shared prompt. What a page shows is in its data; scripts only
lay it out. Texts are messages of the catalogue, in both languages in every file.
"""
