// The random numbers of dinogen: sample NUMBER of a SEED has the latent here that `dinogen sample` gives it.
// numpy's SeedSequence mixes seed and number. torch's Mersenne twister and Box-Muller make normal numbers of that.

const times = Math.imul; // of whole numbers, modulo 2^32

// What seeds the twister: the first 64 bits of SeedSequence([seed, number]), halved, of which it takes the low 32.
function twisterSeed(seed, number) {
  let hash = 0x43b0d7e5;
  const hashed = (value) => {
    value ^= hash;
    hash = times(hash, 0x931e8875);
    value = times(value, hash);
    return value ^ (value >>> 16);
  };
  const mixed = (some, other) => {
    const value = (times(0xca01f9dd, some) - times(0x4973f715, other)) | 0;
    return value ^ (value >>> 16);
  };
  const pool = [seed, number, 0, 0].map(hashed);
  for (let source = 0; source < 4; source++) {
    for (let target = 0; target < 4; target++) {
      if (source !== target) pool[target] = mixed(pool[target], hashed(pool[source]));
    }
  }
  hash = 0x8b51f9dd;
  const [low, high] = pool.map((word) => {
    let value = word ^ hash;
    hash = times(hash, 0x58f38ded);
    value = times(value, hash);
    return value ^ (value >>> 16);
  });
  return ((low >>> 1) | (high << 31)) >>> 0;
}

// MT19937: whole numbers of 32 bits.
function* twister(seed) {
  const size = 624;
  const state = new Uint32Array(size);
  state[0] = seed;
  for (let i = 1; i < size; i++) state[i] = times(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  for (;;) {
    for (let i = 0; i < size; i++) {
      const both = (state[i] & 0x80000000) | (state[(i + 1) % size] & 0x7fffffff);
      state[i] = state[(i + 397) % size] ^ (both >>> 1) ^ (both & 1 ? 0x9908b0df : 0);
    }
    for (let value of state) {
      value ^= value >>> 11;
      value ^= (value << 7) & 0x9d2c5680;
      value ^= (value << 15) & 0xefc60000;
      yield (value ^ (value >>> 18)) >>> 0;
    }
  }
}

/**
 * The latent of a sample.
 * @param {number} seed a whole number from 0 to 2^32 - 1.
 * @param {number} number of the sample, from 0.
 * @param {number} size of the latent, 16 or more: torch makes shorter ones in another way.
 * @returns {Float32Array} standard normal, like torch.randn's up to its rounding.
 */
export function latent(seed, number, size) {
  const words = twister(twisterSeed(seed, number));
  const uniform = () => (words.next().value & 0xffffff) / 2 ** 24;
  const z = Float32Array.from({ length: size }, uniform);
  const makeNormal = (first) => {
    for (let i = first; i < first + 8; i++) {
      const radius = Math.sqrt(-2 * Math.log(1 - z[i]));
      const angle = 2 * Math.PI * z[i + 8];
      z[i] = radius * Math.cos(angle);
      z[i + 8] = radius * Math.sin(angle);
    }
  };
  for (let first = 0; first + 16 <= size; first += 16) makeNormal(first);
  if (size % 16) {
    // torch makes the last 16 anew where they overlap others.
    for (let i = size - 16; i < size; i++) z[i] = uniform();
    makeNormal(size - 16);
  }
  return z;
}
