"""The viewer: a page in the browser, connected by one websocket. `adop.viewer.app.view_run` starts it."""
