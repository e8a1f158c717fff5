"""Parts that several screens share. What is not an `ft.component` is a plain function that returns controls."""
