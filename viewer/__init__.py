"""The viewer: a page in the browser over one websocket; `adop.viewer.app.view_run` starts it."""
