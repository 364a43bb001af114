// Runs the deployed embedding pipeline from Node: the .proto files are all that it shares with the daemon.
//
//     npm install
//     node embed.mjs unix:/run/user/1000/pipelined.sock "How do I cook rice?" "Boil it in water."
//
// Prints a line for each sentence: its vector's first numbers.

import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const SHOWN = 4;

/** The stub of pipelined.v1.Runs. */
function connect(address, protoFolder) {
  const definition = protoLoader.loadSync("pipelined_api/v1/runs.proto", {
    includeDirs: [protoFolder],
    keepCase: true,
    enums: String,
    longs: Number,
    oneofs: true,
  });
  const { Runs } = grpc.loadPackageDefinition(definition).pipelined.v1;
  return new Runs(address, grpc.credentials.createInsecure());
}

/** Executes a deployment once; resolves to the RunResponse. */
function run(runs, request) {
  return new Promise((resolve, reject) => {
    // The first run of a cold deployment starts it, so it is given more time than a warm one needs.
    runs.Run(request, { deadline: Date.now() + 60_000 }, (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });
}

/** The rows of a two-dimensional float32 tensor. */
function rows(tensor) {
  if (tensor.dtype !== "DATA_TYPE_FLOAT32" || tensor.shape.length !== 2) {
    throw new Error(`expected a matrix of float32, got ${tensor.dtype} of shape [${tensor.shape}]`);
  }
  const [count, width] = tensor.shape;
  // A DataView, because the bytes are little-endian whatever this machine is, and need not be aligned.
  const bytes = new DataView(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
  const numbers = Float32Array.from({ length: count * width }, (_, i) => bytes.getFloat32(4 * i, true));
  return Array.from({ length: count }, (_, row) => numbers.subarray(row * width, (row + 1) * width));
}

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    deployment: { type: "string", default: "embeddings" },
    proto: { type: "string", default: fileURLToPath(new URL("../../../proto", import.meta.url)) },
  },
});
const [address, ...sentences] = positionals;
if (sentences.length === 0) {
  console.error("usage: node embed.mjs [--deployment NAME] [--proto FOLDER] ADDRESS SENTENCE...");
  process.exit(2);
}

const runs = connect(address, options.proto);
try {
  const items = sentences.map((sentence) => ({ string_value: sentence }));
  const response = await run(runs, {
    deployment: options.deployment,
    inputs: [{ list_value: { items } }],
  });
  rows(response.outputs[0].tensor_value).forEach((vector, i) => {
    const shown = Array.from(vector.subarray(0, SHOWN), (number) => number.toFixed(6)).join(" ");
    console.log(`${shown} … (${vector.length} numbers)  ${sentences[i]}`);
  });
} catch (error) {
  if (!(error.code in grpc.status)) throw error;
  console.error(`${grpc.status[error.code]}: ${error.details}`);
  process.exitCode = 1;
} finally {
  runs.close();
}
