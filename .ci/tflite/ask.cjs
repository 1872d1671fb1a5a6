// Asks TensorFlow Lite's own interpreter (the WebAssembly build of npm's @tensorflow/tfjs-tflite) what models give:
//
//   npm install --prefix /tmp/tflite --ignore-scripts @tensorflow/tfjs-tflite@0.0.1-alpha.10
//   node .ci/tflite/ask.cjs /tmp/tflite res/models/*/model.tflite >cmd/offload-lab/internal/nn/testdata/tensorflow.json
//
// It prints {folder: [case][output][value]} with raw int8 values. The inputs of case c = 1 … 4: s = c; for each element of each input in order
// s = s·1664525 + 1013904223 (mod 2³²), v = (s >> 24) − 128; int8 takes v, float32 v/64. A model that is refused ends it with an error.
const fs = require('fs')
const path = require('path')

async function main(folder, models) {
	const wasm = path.resolve(folder, 'node_modules/@tensorflow/tfjs-tflite/wasm') + '/'
	const source = fs.readFileSync(wasm + 'tflite_web_api_cc_simd.js', 'utf8') + ';module.exports = tflite_web_api_ModuleFactory'
	const module_ = { exports: {} }
	new Function('module', 'exports', 'require', '__dirname', '__filename', source)(module_, module_.exports, require, wasm, wasm + 'x.js')
	const lite = await module_.exports({ wasmBinary: fs.readFileSync(wasm + 'tflite_web_api_cc_simd.wasm'), locateFile: (f) => wasm + f, print() {}, printErr() {} })
	const list = (v) => Array.from({ length: v.size() }, (_, i) => v.get(i))
	const all = {}
	for (const file of models) {
		const b = fs.readFileSync(file)
		const at = lite._malloc(b.length)
		lite.HEAPU8.set(b, at)
		const made = lite.TFLiteWebModelRunner.CreateFromBufferAndOptions(at, b.length, { numThreads: 1, enableWebNNDelegate: false, webNNDeviceType: 0, enableProfiling: false, maxProfilingBufferEntries: 1024, csvFormattedSummary: false })
		if (!made.ok()) throw new Error(`${file} is refused: ${made.errorMessage()}`)
		const runner = made.value()
		const cases = []
		for (let c = 1; c <= 4; c++) {
			let s = c
			for (const input of list(runner.GetInputs())) {
				const data = input.data()
				for (let i = 0; i < data.length; i++) {
					s = (Math.imul(s, 1664525) + 1013904223) >>> 0
					const v = (s >>> 24) - 128
					data[i] = data instanceof Float32Array ? v / 64 : v
				}
			}
			if (!runner.Infer()) throw new Error(`${file}: the run failed`)
			cases.push(list(runner.GetOutputs()).map((t) => Array.from(t.data())))
		}
		all[path.basename(path.dirname(path.resolve(file)))] = cases
	}
	console.log(JSON.stringify(all))
}

main(process.argv[2], process.argv.slice(3)).catch((e) => { console.error(e.message); process.exit(1) })
