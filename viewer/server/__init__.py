"""The viewer's HTTP and websocket server, and who may connect to it."""
