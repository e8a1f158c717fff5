// A worker that answers each Blob with its SHA-256. Browsers offer theirs to secure contexts only (https, or this
// machine); a server on a home network without TLS is none, and there hash-wasm computes it.

let hasher = null;

async function digest(blob) {
  const bytes = await blob.arrayBuffer();
  if (globalThis.crypto?.subtle) return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  if (!hasher) {
    await import("./sha256.js");
    hasher ??= await globalThis.hashwasm.createSHA256();
  }
  return hasher.init().update(new Uint8Array(bytes)).digest("binary");  // nothing else runs in between
}

onmessage = async ({ data: { n, blob } }) => {
  try {
    postMessage({ n, digest: await digest(blob) });
  } catch (error) {
    postMessage({ n, error: error.name });
  }
};
