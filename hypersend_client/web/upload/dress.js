// How a page in a frame of the app looks: language, theme and accent stand in its address, after the #.

export const language = (options) => ((options.get("lang") || navigator.language || "en").startsWith("hi") ? "hi" : "en");

export function dress(options) {
  const dark = options.has("theme") ? options.get("theme") === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.className = dark ? "dark" : "";
  document.documentElement.lang = language(options);
  accent(options.get("accent"));
}

export function accent(colour) {
  if (!/^#[0-9a-f]{6}$/i.test(colour ?? "")) return;
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  const { style } = document.documentElement;
  style.setProperty("--accent", colour);
  style.setProperty("--on-accent", 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.36 ? "#1a1c20" : "#fff");
}
