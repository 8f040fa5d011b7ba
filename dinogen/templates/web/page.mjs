// Draws faces with two models: mapping.onnx makes styles of latents, generator.onnx makes pictures of styles.
import * as ort from "./runtime/ort.wasm.bundle.min.mjs";
import { latent } from "./seeds.mjs";

const FACES = 12;
const MOST_SEED = 2 ** 32 - 1;
const KEPT = 2000; // styles
const FRAME = 40; // milliseconds between pictures of a film, at least
const STEP = 2; // percent of the way between them

const find = (id) => document.getElementById(id);
const settings = await json("page.json");
const state = { seed: 0, psi: 1, prompt: 0, guidance: 1, face: 0, from: null, to: null, at: 0 };
const styles = new Map(); // "seed-number" to a style of wDim numbers
const turns = {}; // of each part of the page, how often it was asked to draw anew
let models, words;
let running = Promise.resolve(); // onnxruntime takes one thing at a time
let film = null;

async function load(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name}: the server says ${answer.status}`);
  return answer;
}

async function json(name) {
  return (await load(name)).json();
}

function say(text) {
  find("status").textContent = text;
}

// ---- what is drawn

function run(model, feeds) {
  const result = running.then(() => model.run(feeds));
  running = result.catch(() => {});
  return result;
}

function floats(values, ...shape) {
  return new ort.Tensor("float32", Float32Array.from(values), shape);
}

async function styleOf([seed, number]) {
  const key = `${seed}-${number}`;
  if (!styles.has(key)) {
    if (styles.size >= KEPT) styles.clear();
    const z = floats(latent(seed, number, settings.zDim), 1, settings.zDim);
    styles.set(key, (await run(models.mapping, { z })).w.data);
  }
  return styles.get(key);
}

// The inputs of the chosen words: all embeddings lie one after the other, then all tokens, then how much each counts.
function wordInputs() {
  if (!words) return {};
  const { prompts, textDim, tokens = 0, tokenDim = 0 } = settings;
  const part = (first, size) => words.subarray(first + state.prompt * size, first + (state.prompt + 1) * size);
  const afterTexts = prompts.length * textDim;
  const afterTokens = afterTexts + prompts.length * tokens * tokenDim;
  const inputs = { text: floats(part(0, textDim), 1, textDim), guidance: floats([state.guidance], 1) };
  if (tokens) {
    inputs.tokens = floats(part(afterTexts, tokens * tokenDim), 1, tokens, tokenDim);
    inputs.mask = new ort.Tensor("bool", Uint8Array.from(part(afterTokens, tokens)), [1, tokens]);
  }
  return inputs;
}

async function draw(canvas, style) {
  const { side, blocks, wDim } = settings;
  const w = new Float32Array(blocks * wDim);
  for (let block = 0; block < blocks; block++) w.set(style, block * wDim);
  const inputs = { w: floats(w, 1, blocks, wDim), truncation_psi: floats([state.psi]), ...wordInputs() };
  const taken = Object.fromEntries(models.generator.inputNames.map((name) => [name, inputs[name]]));
  const pixels = (await run(models.generator, taken)).images.data;
  const picture = new ImageData(side, side);
  for (let from = 0, to = 0; from < pixels.length; to += 4) {
    for (let colour = 0; colour < 3; colour++) picture.data[to + colour] = pixels[from++];
    picture.data[to + 3] = 255;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

// Does some drawings in turn, and leaves the rest when the same part of the page is asked to draw anew.
async function inTurn(part, drawings) {
  const turn = (turns[part] = (turns[part] ?? 0) + 1);
  document.body.dataset[part] = "drawing";
  for (const one of drawings) {
    await new Promise((resolve) => setTimeout(resolve)); // lets keys and pointers come through
    if (turn !== turns[part]) return false;
    await one();
  }
  if (turn !== turns[part]) return false;
  document.body.dataset[part] = "drawn";
  return true;
}

// ---- the parts of the page

const ends = () => [state.from ?? [state.seed, 0], state.to ?? [state.seed, 1]];
const named = ([seed, number]) => `seed ${seed}, number ${number}`;
const spaced = (number, digits) => String(number).padStart(digits, "0");

async function drawGrid() {
  const began = performance.now();
  const canvases = [...document.querySelectorAll("#grid canvas")];
  const all = canvases.map((canvas, number) => async () => draw(canvas, await styleOf([state.seed, number])));
  if (await inTurn("grid", all)) say(`${FACES} faces in ${((performance.now() - began) / 1000).toFixed(1)} seconds.`);
}

async function drawChosen() {
  await inTurn("chosen", [async () => draw(find("chosen"), await styleOf([state.seed, state.face]))]);
}

async function drawWalk() {
  const share = state.at / 100;
  await inTurn("walk", [
    async () => {
      const [from, to] = ends();
      const [start, end] = [await styleOf(from), await styleOf(to)];
      await draw(find("walk"), start.map((value, index) => value + share * (end[index] - value)));
    },
  ]);
}

function drawAll() {
  const failed = (error) => say(`This could not be drawn: ${error.message}`);
  for (const part of [drawChosen, drawGrid, drawWalk]) part().catch(failed);
}

// Shows the state in all controls and in the address.
function show() {
  const [from, to] = ends();
  find("seed").value = state.seed;
  find("psi").value = state.psi;
  find("psi-value").textContent = state.psi.toFixed(2);
  if (find("prompt")) find("prompt").value = state.prompt;
  if (find("guidance")) {
    find("guidance").value = state.guidance;
    find("guidance").disabled = !state.prompt; // nothing to exaggerate
    find("guidance-value").textContent = state.guidance.toFixed(2);
  }
  find("at").value = state.at;
  find("at-value").textContent = `${state.at} %`;
  find("chosen-name").textContent = `Seed ${state.seed}, number ${state.face}`;
  find("walk-name").textContent = `From ${named(from)} to ${named(to)}`;
  document.querySelectorAll("#grid button").forEach((button, number) => {
    button.setAttribute("aria-pressed", number === state.face);
    button.setAttribute("aria-label", `Face with seed ${state.seed}, number ${number}`);
  });
  history.replaceState(null, "", `#${addressOf()}`);
}

// ---- the address

function addressOf() {
  const parts = new URLSearchParams({ seed: state.seed, psi: state.psi });
  if (state.prompt) parts.set("prompt", settings.prompts[state.prompt]);
  if (state.guidance !== 1) parts.set("guidance", state.guidance);
  if (state.face) parts.set("face", state.face);
  for (const end of ["from", "to"]) if (state[end]) parts.set(end, state[end].join("-"));
  if (state.at) parts.set("at", state.at);
  return parts;
}

// A number of an address or a field, within its range; what is none becomes the second one.
function within(text, usual, least, most, whole = true) {
  const value = text === null || String(text).trim() === "" ? NaN : Number(text);
  if (!Number.isFinite(value)) return usual;
  return Math.min(most, Math.max(least, whole ? Math.round(value) : value));
}

function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const face = (text) => {
    const found = /^(\d{1,10})-(\d{1,9})$/.exec(text ?? "");
    return found && [within(found[1], 0, 0, MOST_SEED), Number(found[2])];
  };
  state.seed = within(parts.get("seed"), 0, 0, MOST_SEED);
  state.psi = within(parts.get("psi"), 1, 0, 1.5, false);
  state.prompt = find("prompt") ? Math.max(0, settings.prompts.indexOf(parts.get("prompt") ?? "")) : 0;
  state.guidance = find("guidance") ? within(parts.get("guidance"), 1, 1, settings.mostGuidance, false) : 1;
  state.face = within(parts.get("face"), 0, 0, FACES - 1);
  state.from = face(parts.get("from"));
  state.to = face(parts.get("to"));
  state.at = within(parts.get("at"), 0, 0, 100);
}

// ---- what people do

function change(values, ...drawings) {
  Object.assign(state, values);
  show();
  if (drawings.length) drawings.forEach((one) => one());
  else drawAll();
}

function save(canvas, name) {
  canvas.toBlob((blob) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });
}

const wordsName = () => (state.prompt ? `prompt${spaced(state.prompt - 1, 4)}-` : "");

function saveChosen() {
  save(find("chosen"), `${wordsName()}seed${spaced(state.seed, 4)}-${spaced(state.face, 6)}.png`);
}

function saveWalk() {
  const [from, to] = ends().map((end) => end.join("-"));
  save(find("walk"), `${wordsName()}walk-${from}-to-${to}-at-${spaced(state.at, 3)}.png`);
}

async function play() {
  if (film) return stop();
  const mine = (film = {});
  find("play").textContent = "Stop";
  find("play").setAttribute("aria-pressed", "true");
  let step = state.at >= 100 ? -STEP : STEP;
  while (film === mine) {
    const drawn = performance.now();
    if (state.at + step > 100 || state.at + step < 0) step = -step;
    Object.assign(state, { at: state.at + step });
    find("at").value = state.at;
    find("at-value").textContent = `${state.at} %`;
    await drawWalk();
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, FRAME - (performance.now() - drawn))));
  }
}

function stop() {
  film = null;
  find("play").textContent = "Play";
  find("play").setAttribute("aria-pressed", "false");
  show(); // the address does not follow each picture of a film: browsers limit how often it may change
}

function build() {
  for (const canvas of [find("chosen"), find("walk")]) canvas.width = canvas.height = settings.side;
  for (let number = 0; number < FACES; number++) {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const canvas = Object.assign(document.createElement("canvas"), { width: settings.side, height: settings.side });
    button.append(canvas);
    button.addEventListener("click", () => change({ face: number }, drawChosen));
    const item = document.createElement("li");
    item.append(button);
    find("grid").append(item);
  }
  if (find("prompt")) {
    settings.prompts.forEach((text, index) => find("prompt").append(new Option(text || "whatever comes", index)));
    find("prompt").addEventListener("change", (event) => change({ prompt: Number(event.target.value) }));
  }
  if (find("guidance")) {
    find("guidance").max = settings.mostGuidance;
    find("guidance").addEventListener("input", (event) => change({ guidance: Number(event.target.value) }));
  }
  find("controls").addEventListener("submit", (event) => event.preventDefault());
  find("seed").addEventListener("change", (event) =>
    change({ seed: within(event.target.value, state.seed, 0, MOST_SEED) }),
  );
  find("another").addEventListener("click", () => change({ seed: Math.floor(Math.random() * 1_000_000) }));
  find("psi").addEventListener("input", (event) => change({ psi: Number(event.target.value) }));
  find("from").addEventListener("click", () => change({ from: [state.seed, state.face] }, drawWalk));
  find("to").addEventListener("click", () => change({ to: [state.seed, state.face] }, drawWalk));
  find("at").addEventListener("input", (event) => change({ at: Number(event.target.value) }, drawWalk));
  find("play").addEventListener("click", play);
  find("save").addEventListener("click", saveChosen);
  find("save-walk").addEventListener("click", saveWalk);
  addEventListener("hashchange", () => {
    readAddress();
    change({});
  });
}

// Whether the seeds here are those of the dinogen that wrote this page; another torch may make other numbers.
function seedsAgree() {
  const { seed, number, z } = settings.check;
  return latent(seed, number, settings.zDim).every((value, index) => Math.abs(value - z[index]) < 1e-4);
}

async function start() {
  say("Loading the generator…");
  ort.env.wasm.numThreads = 1; // more of them need headers that plain file servers do not send
  ort.env.logLevel = "error";
  const opened = async (name) => ort.InferenceSession.create(await (await load(name)).arrayBuffer());
  const mapping = await opened("mapping.onnx");
  models = { mapping, generator: await opened("generator.onnx") };
  if (settings.prompts) words = new Float32Array(await (await load("words.bin")).arrayBuffer());
  if (!seedsAgree()) find("seeds-note").textContent = "Seeds are this page's own: dinogen sample draws other faces.";
  build();
  readAddress();
  say("Drawing…");
  change({});
}

start().catch((error) => say(`The generator could not be started: ${error.message}`));
