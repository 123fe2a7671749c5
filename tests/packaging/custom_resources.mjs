// custom_resources.mjs FILE: holds a list of custom resources against the schemas of their definitions. It must lie beside `node_modules`.
import { readFileSync } from "node:fs";

const packages = {
  "monitoring.coreos.com": "prometheus-operator",
  "keda.sh": "keda",
  "gateway.networking.k8s.io": "gateway-api",
};

for (const object of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  const [group] = object.apiVersion.split("/");
  const models = await import(`@kubernetes-models/${packages[group]}/${object.apiVersion}`);
  new models[object.kind](object).validate();
}
