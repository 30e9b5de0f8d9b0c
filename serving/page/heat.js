// Heat maps: the server's picture of a map in colours, and from it the layer that lies over the image, as explain.overlay draws it.

// Matplotlib's inferno at 52 even steps, the colours of the server: brighter is more, so that a colour tells its value.
const INFERNO =
  "00000402020c0504170a072210092d160b391e0c45260c512f0a5b380962400a67490b6a510e6c59106e61136e69166e71196e781c6d801f6c88226a90" +
  "2568982766a02a63a82e5fb0315bb73557bf3952c63d4dcc4248d34743d94d3ddf5337e45a31e9612bed6925f1711ff47918f78212f98b0bfa9407fb9d07" +
  "fca60cfcb014fbba1ffac42af8cd37f6d746f4e156f2ea69f2f27df5f992fcffa4";
const STEPS = INFERNO.length / 6 - 1;
const PALE = 0.15, STRONG = 0.7; // opacity where the map is 0 and 1, at the slider's first position
const CONTOUR = 0.5; // the white line, as a share of the map's maximum
const DRAWN = 448; // pixels of the longer side: the map is enlarged before the line is drawn, so that the line is thin

const BRIGHTNESS = Array.from({ length: STEPS + 1 }, (_, step) => {
  const [red, green, blue] = [0, 2, 4].map((part) => parseInt(INFERNO.slice(6 * step + part, 6 * step + part + 2), 16));
  return luma(red, green, blue);
});
const HIGHEST = Math.ceil(BRIGHTNESS[STEPS]);

// The value of a map, 0 to 1, for each brightness in whole numbers.
const VALUES = Array.from({ length: 256 }, (_, brightness) => {
  if (brightness >= HIGHEST) return 1;
  const above = Math.max(1, BRIGHTNESS.findIndex((known) => known >= brightness)), from = BRIGHTNESS[above - 1];
  return Math.max(0, (above - 1 + (brightness - from) / (BRIGHTNESS[above] - from)) / STEPS);
});

function luma(red, green, blue) {
  return 0.299 * red + 0.587 * green + 0.114 * blue;
}

/**
 * The layer to lay over an image: the map's colours, more opaque where it is higher, and a white line at half its maximum.
 *
 * @param {string} url of the server's map in colours.
 * @param {number} ratio width over height of the image that it belongs to.
 * @returns {Promise<string | null>} object URL of a PNG; null where the map is empty, so that nothing speaks for the answer.
 */
export async function layerOf(url, ratio) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(ratio >= 1 ? DRAWN : DRAWN * ratio));
  canvas.height = Math.max(1, Math.round(ratio >= 1 ? DRAWN / ratio : DRAWN));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height), { data } = pixels;
  const values = Float32Array.from({ length: data.length / 4 }, (_, place) =>
    VALUES[Math.round(luma(data[4 * place], data[4 * place + 1], data[4 * place + 2]))]);
  if (values.every((value) => value < 1 / 255)) return null;
  // CSS multiplies by the slider, which stands at STRONG first: the layer itself is stronger by as much.
  values.forEach((value, place) => { data[4 * place + 3] = Math.round((255 * (PALE + (STRONG - PALE) * value)) / STRONG); });
  values.forEach((value, place) => { if (onLine(values, place, canvas.width)) data.fill(255, 4 * place, 4 * place + 4); });
  context.putImageData(pixels, 0, 0);
  return new Promise((resolve) => canvas.toBlob((blob) => resolve(URL.createObjectURL(blob)), "image/png"));
}

/** Whether the map crosses the line between this pixel and the one to its right or below. */
function onLine(values, place, width) {
  const here = values[place] >= CONTOUR, last = place % width === width - 1, below = place + width;
  return (!last && here !== values[place + 1] >= CONTOUR) || (below < values.length && here !== values[below] >= CONTOUR);
}

/** An object URL of a `data:` URL of the server, so that a long list of pictures does not fill memory with text. */
export function objectUrl(text) {
  const [head, body] = text.split(",", 2);
  const bytes = Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: head.slice(5).split(";")[0] }));
}
