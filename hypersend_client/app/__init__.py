"""The app: one Flet program for the browser, the desktop and Android."""
