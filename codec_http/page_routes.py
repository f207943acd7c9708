"""Routes of the web page at / and of the files that the web page loads."""

from codec_http import web_page
from codec_http.route import PAGE_FILES_PATH, PAGE_PATH, Route
from codec_wire import errors

PAGE = "Page"
"""OpenAPI tag of the routes, used as the title of a section of the documentation page."""

PAGE_ROUTES = (
    Route(
        "GET",
        PAGE_PATH,
        web_page.page,
        PAGE,
        "Open the page",
        "Returns a page on which to try the server in a browser. The status is 404 unless the Accept header "
        "contains text/html.",
        {200: {web_page.HTML: None}},
        errors=(errors.NotFound,),
    ),
    Route(
        "GET",
        f"{PAGE_FILES_PATH}/{{file}}",
        web_page.page_file,
        PAGE,
        "Get a file of the page",
        "Returns a script, a style sheet or another file that the page loads.",
        {200: dict.fromkeys(web_page.MEDIA_TYPES.values())},
        errors=(errors.NotFound,),
    ),
)
