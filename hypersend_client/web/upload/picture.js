// A picture of a person or a group: made small here, so that a phone's photo costs neither time nor memory on the way.
// After the #: ticket, name (under which the app looks for it), and optionally lang, theme, accent.

import { dress, language } from "./dress.js";
import { sha256 } from "./digest.js";
import { Api, ServerChunks } from "./transport.js";

const SIDE = 512;
const QUALITY = 0.88;
const WORDS = {
  en: {
    title: "Choose a picture", choose: "Choose a picture", again: "Choose another one", use: "Use this picture",
    shown: "The picture as it will be seen", busy: "Sending the picture", done: "The picture is set.",
    bad: "This picture cannot be read. Choose a JPEG, PNG or WebP.",
    failed: "The picture could not be sent. Check your connection, then try again.",
    old: "This page has been open for too long. Close it and open it again.",
  },
  hi: {
    title: "तस्वीर चुनें", choose: "तस्वीर चुनें", again: "दूसरी चुनें", use: "यह तस्वीर लगाएँ",
    shown: "तस्वीर ऐसी दिखेगी", busy: "तस्वीर भेजी जा रही है", done: "तस्वीर लग गई।",
    bad: "यह तस्वीर पढ़ी नहीं जा सकती। JPEG, PNG या WebP चुनें।",
    failed: "तस्वीर भेजी नहीं जा सकी। कनेक्शन जाँचें, फिर कोशिश करें।",
    old: "यह पेज बहुत देर से खुला है। इसे बंद करके फिर खोलें।",
  },
};

const options = new URLSearchParams(location.hash.slice(1));
const words = WORDS[language(options)];
const $ = (id) => document.getElementById(id);

function say(text, isLoss = false) {
  $("words").textContent = text;
  $("words").classList.toggle("loss", isLoss);
  $("words").hidden = !text;
}

/** The middle square of it, on white, since a JPEG has no transparency. */
async function draw(file) {
  const image = await createImageBitmap(file);
  const side = Math.min(image.width, image.height), size = Math.min(SIDE, side), canvas = $("shown");
  canvas.width = canvas.height = size;
  const paper = canvas.getContext("2d");
  paper.imageSmoothingQuality = "high";
  paper.fillStyle = "#fff";
  paper.fillRect(0, 0, size, size);
  paper.drawImage(image, (image.width - side) / 2, (image.height - side) / 2, side, side, 0, 0, size, size);
  image.close();
}

async function take(file) {
  if (!file) return;
  try {
    await draw(file);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;  // no picture, or one too large for this device
    return say(words.bad, true);
  }
  say("");
  $("shown").hidden = $("use").hidden = false;
  $("choose").className = "text-button";
  $("choose").textContent = words.again;
  $("use").focus();
}

async function send() {
  $("use").disabled = $("choose").disabled = true;
  say(words.busy);
  try {
    const blob = await new Promise((resolve) => { $("shown").toBlob(resolve, "image/jpeg", QUALITY); });
    const api = new Api(options.get("ticket"));
    const file = await api.call("POST", "/init", { json: { name: options.get("name"), size: blob.size, mime: "image/jpeg" } });
    const whole = { signal: new AbortController().signal, progress() {} };
    await new ServerChunks(api, file.id).put(0, 0, blob, await sha256(blob), whole);
    await api.call("POST", `/${file.id}/complete`);
    say(words.done);
    $("use").hidden = $("choose").hidden = true;
  } catch (error) {
    if (error instanceof TypeError || error instanceof ReferenceError) throw error;
    say(error.status === 401 ? words.old : words.failed, true);
    $("use").disabled = $("choose").disabled = false;
  }
}

dress(options);
document.title = words.title;
$("shown").setAttribute("aria-label", words.shown);
$("choose").textContent = words.choose;
$("use").textContent = words.use;
$("choose").onclick = () => $("files").click();
$("files").onchange = () => { take($("files").files[0]); $("files").value = ""; };
$("use").onclick = send;
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files[0]); });
addEventListener("hashchange", () => location.reload());
