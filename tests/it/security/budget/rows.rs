//! The bodies.

use super::WIDTH;
use super::files;

/// What a body is answered with when it is as large as it may be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected {
    /// It is honest.
    Answer,
    /// It would take too much memory.
    TooLarge,
    /// It is refused, for whatever reason comes first.
    Refusal,
    /// It costs little, whether it is answered or not.
    Any,
}

/// A kind of body.
pub(crate) struct Row {
    pub(crate) decoder: &'static str,
    pub(crate) class: &'static str,
    pub(crate) path: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) expected: Expected,
    /// A body of about so many bytes, and no more.
    pub(crate) body: fn(usize) -> Vec<u8>,
}

impl Row {
    /// More headers of a body.
    pub(crate) fn headers(&self, body: &[u8]) -> Vec<(&'static str, String)> {
        if self.decoder != BINARY {
            return Vec::new();
        }
        let end = body.iter().position(|&byte| byte == b'\n').unwrap();
        vec![("inference-header-content-length", (end + 1).to_string())]
    }
}

const COLUMNS: &str = "/models/columns/invocations";
const TENSOR: &str = "/models/tensor/invocations";
const TEXTS: &str = "/models/texts/invocations";
/// No graph takes lists as a column: they are refused once they were read.
const LISTS: &str = COLUMNS;
const V1: &str = "/v1/models/tensor:predict";
const V1_TEXTS: &str = "/v1/models/texts:predict";
const OIP: &str = "/v2/models/tensor/infer";
const OIP_TEXTS: &str = "/v2/models/texts/infer";

const JSON: &str = "application/json";
const CSV: &str = "text/csv";
const PARQUET: &str = "application/vnd.apache.parquet";
const BINARY: &str = "OIP, binary";

/// The rows of one decoder.
pub(crate) fn of(decoder: &str) -> Vec<Row> {
    match decoder {
        "split" => split(),
        "records" => records(),
        "inputs" => inputs(),
        "instances" => instances(),
        "envelope" => envelope(),
        "csv" => csv(),
        "parquet" => parquet(),
        "v1" => v1(),
        "oip-json" => oip(),
        "oip-binary" => binary(),
        "event" => events(),
        other => panic!("no decoder `{other}`"),
    }
}

/// All of them, in the order of the table.
pub(crate) fn all() -> Vec<Row> {
    let decoders = [
        "split",
        "records",
        "inputs",
        "instances",
        "envelope",
        "csv",
        "parquet",
        "v1",
        "oip-json",
        "oip-binary",
        "event",
    ];
    decoders.into_iter().flat_map(of).collect()
}

/// `part` over and over between the ends.
fn filled(head: &str, part: &str, tail: &str, size: usize) -> Vec<u8> {
    let room = size - head.len() - tail.len();
    let last = part.trim_end_matches(',');
    let count = (room / part.len()).max(1) - 1;
    [head, &part.repeat(count), last, tail]
        .concat()
        .into_bytes()
}

/// The same with a number in each part.
fn numbered((head, tail): (&str, &str), part: fn(usize) -> String, size: usize) -> Vec<u8> {
    let mut text = head.to_owned();
    let mut index = 0;
    loop {
        let next = part(index);
        if text.len() + next.len() + tail.len() > size {
            break;
        }
        text.push_str(&next);
        index += 1;
    }
    let text = text.trim_end_matches(',');
    [text, tail].concat().into_bytes()
}

fn names() -> String {
    let names: Vec<String> = (0..WIDTH).map(|index| format!("\"c{index}\"")).collect();
    names.join(",")
}

fn numbers() -> String {
    vec!["1.25"; WIDTH].join(",")
}

/// One record of all columns.
fn record() -> String {
    let fields: Vec<String> = (0..WIDTH)
        .map(|index| format!("\"c{index}\":1.25"))
        .collect();
    format!("{{{}}},", fields.join(","))
}

fn split_of(columns: &str) -> String {
    format!("{{\"dataframe_split\":{{\"columns\":[{columns}],\"data\":[")
}

/// Lists in each other, of which only the innermost are unequal.
fn ragged(head: &str, tail: &str, size: usize) -> Vec<u8> {
    const DEPTH: usize = 90;
    let (open, close) = ("[".repeat(DEPTH), "]".repeat(DEPTH));
    filled(
        &format!("{head}{open}"),
        "[1],[1,2],",
        &format!("{close}{tail}"),
        size,
    )
}

macro_rules! rows {
    ($decoder:expr, $content:expr; $($class:literal, $path:expr, $expected:ident, $body:expr;)*) => {
        vec![$(Row {
            decoder: $decoder,
            class: $class,
            path: $path,
            content_type: $content,
            expected: Expected::$expected,
            body: $body,
        }),*]
    };
}

fn split() -> Vec<Row> {
    rows! { "`dataframe_split`", JSON;
        "numbers", COLUMNS, Answer, |size| {
            filled(&split_of(&names()), &format!("[{}],", numbers()), "]}}", size)
        };
        "numbers, for a tensor", TENSOR, Answer, |size| {
            filled(&split_of(&names()), &format!("[{}],", numbers()), "]}}", size)
        };
        "numbers and nulls", COLUMNS, Answer, |size| {
            let row = numbers().replacen("1.25", "null", WIDTH / 2);
            filled(&split_of(&names()), &format!("[{}],[{row}],", numbers()), "]}}", size)
        };
        "one row of many columns", COLUMNS, TooLarge, |size| {
            filled(&format!("{}[", split_of("\"a\"")), "1,", "]]}}", size)
        };
        "ever more names of columns", COLUMNS, TooLarge, |size| {
            numbered(("{\"dataframe_split\":{\"data\":[[1]],\"columns\":[", "]}}"), |index| format!("\"{index}\","), size)
        };
        "one wide row and many empty ones", COLUMNS, Refusal, |size| {
            let wide = "1,".repeat(size / 4);
            filled(&format!("{{\"dataframe_split\":{{\"data\":[[{wide}1],"), "[],", "]}}", size)
        };
        "one name many times, of records", COLUMNS, Refusal, |size| {
            let data = "{\"a\":1},".repeat(size / 16);
            filled(&format!("{{\"dataframe_split\":{{\"data\":[{data}{{\"a\":1}}],\"columns\":["), "\"b\",", "]}}", size)
        };
        "empty texts", TEXTS, TooLarge, |size| filled(&split_of("\"t\""), "[\"\"],", "]}}", size);
        "nulls", TEXTS, TooLarge, |size| filled(&split_of("\"t\""), "[null],[\"\"],", "]}}", size);
        "lists of one", LISTS, TooLarge, |size| filled(&split_of("\"a\""), "[[1]],", "]}}", size);
        "ragged lists in lists", LISTS, TooLarge, |size| ragged(&format!("{}[", split_of("\"a\"")), "]]}}", size);
        "rows of several kinds", LISTS, Refusal, |size| filled(&split_of("\"a\""), "[1],{},", "]}}", size);
    }
}

fn records() -> Vec<Row> {
    const HEAD: &str = "{\"dataframe_records\":[";
    rows! { "`dataframe_records`", JSON;
        "numbers", COLUMNS, Answer, |size| filled(HEAD, &record(), "]}", size);
        "ever new keys", COLUMNS, Refusal, |size| {
            numbered((HEAD, "]}"), |index| format!("{{\"{index}\":1}},"), size)
        };
        "one record of many keys", COLUMNS, TooLarge, |size| {
            numbered(("{\"dataframe_records\":[{", "}]}"), |index| format!("\"{index}\":1,"), size)
        };
        "one key many times", COLUMNS, Any, |size| {
            filled("{\"dataframe_records\":[{\"a\":0,", "\"a\":1,\"a\":\"x\",", "}]}", size)
        };
        "texts of one letter", TEXTS, TooLarge, |size| filled(HEAD, "{\"t\":\"a\"},", "]}", size);
        "empty records", TEXTS, Refusal, |size| filled("{\"dataframe_records\":[{\"t\":\"a\"},", "{},", "]}", size);
        "lists of one", LISTS, TooLarge, |size| filled(HEAD, "{\"a\":[1]},", "]}", size);
        "objects in objects", LISTS, TooLarge, |size| filled(HEAD, "{\"a\":{\"b\":{}}},", "]}", size);
    }
}

fn inputs() -> Vec<Row> {
    const HEAD: &str = "{\"inputs\":[";
    rows! { "`inputs`", JSON;
        "numbers", TENSOR, Answer, |size| filled(HEAD, &format!("[{}],", numbers()), "]}", size);
        "numbers, for columns", COLUMNS, Refusal, |size| filled(HEAD, &format!("[{}],", numbers()), "]}", size);
        "objects of numbers", COLUMNS, Answer, |size| filled(HEAD, &record(), "]}", size);
        "numbers by column", COLUMNS, Answer, |size| {
            let each = size / WIDTH - 20;
            let list = format!("[{}1.25]", "1.25,".repeat(each / 5 - 2));
            let columns: Vec<String> = (0..WIDTH).map(|index| format!("\"c{index}\":{list}")).collect();
            format!("{{\"inputs\":{{{}}}}}", columns.join(",")).into_bytes()
        };
        "empty texts", TEXTS, TooLarge, |size| filled(HEAD, "\"\",", "]}", size);
        "one text of escapes", TEXTS, Any, |size| filled("{\"inputs\":[\"", "\\n", "\"]}", size);
        "lists of one", TENSOR, TooLarge, |size| filled(HEAD, "[1],[1,2],", "]}", size);
        "ragged lists in lists", TENSOR, TooLarge, |size| ragged("{\"inputs\":", "}", size);
        "deep lists", TENSOR, TooLarge, |size| {
            filled(HEAD, &format!("{}1{},[],", "[".repeat(50), "]".repeat(50)), "]}", size)
        };
        "empty objects", TENSOR, Any, |size| filled(HEAD, "{},", "]}", size);
        "empty lists", TENSOR, Refusal, |size| filled(HEAD, "[],[[]],", "]}", size);
        "numbers and texts", TENSOR, TooLarge, |size| filled(HEAD, "1,\"\",", "]}", size);
        "nulls", TENSOR, Refusal, |size| filled(HEAD, "null,", "]}", size);
        "numbers of thousands of digits", TENSOR, Any, |size| {
            filled(HEAD, &format!("{},", "9".repeat(4_000)), "]}", size)
        };
        "digits without end", TENSOR, Refusal, |size| filled(HEAD, "9", "]}", size);
        "many scalars beside a list", COLUMNS, Refusal, |size| {
            let list = "1,".repeat(size / 4);
            numbered((&format!("{{\"inputs\":{{\"l\":[{list}1],"), "}}"), |index| format!("\"{index}\":1,"), size)
        };
    }
}

fn instances() -> Vec<Row> {
    const HEAD: &str = "{\"instances\":[";
    rows! { "`instances`", JSON;
        "numbers", TENSOR, Answer, |size| filled(HEAD, &format!("[{}],", numbers()), "]}", size);
        "objects of numbers", COLUMNS, Answer, |size| filled(HEAD, &record(), "]}", size);
        "ever new keys", COLUMNS, TooLarge, |size| {
            numbered((HEAD, "]}"), |index| format!("{{\"{index}\":1}},"), size)
        };
        "texts of one letter", TEXTS, TooLarge, |size| filled(HEAD, "{\"t\":\"a\"},", "]}", size);
        "one key many times", COLUMNS, Any, |size| filled("{\"instances\":[{", "\"a\":1,", "}]}", size);
        "lists of one", LISTS, Any, |size| filled(HEAD, "{\"a\":[1]},{\"a\":[1,2]},", "]}", size);
        "objects and numbers", COLUMNS, Refusal, |size| filled(HEAD, "{},1,", "]}", size);
    }
}

fn envelope() -> Vec<Row> {
    rows! { "MLflow's object", JSON;
        "unknown keys", TENSOR, Refusal, |size| numbered(("{", "}"), |index| format!("\"{index}\":1,"), size);
        "one key of megabytes", TENSOR, Refusal, |size| filled("{\"", "k", "\":1}", size);
        "many `inputs`", TENSOR, Refusal, |size| filled("{", "\"inputs\":[],", "}", size);
        "many `dataframe_split` behind a long text", TENSOR, Refusal, |size| {
            let text = "\\n".repeat(size / 4);
            filled(&format!("{{\"x\":\"{text}\","), "\"dataframe_split\":{\"data\":[]},", "}", size)
        };
        "params of many keys", TENSOR, TooLarge, |size| {
            numbered(("{\"inputs\":[[1]],\"params\":{", "}}"), |index| format!("\"{index}\":1,"), size)
        };
        "params of lists", TENSOR, TooLarge, |size| {
            filled("{\"inputs\":[[1]],\"params\":{\"p\":[", "[1],[1,2],", "]}}", size)
        };
        "a list of lists", TENSOR, TooLarge, |size| filled("[", "[1],[1,2],", "]", size);
        "a text", TENSOR, Refusal, |size| filled("\"", "a", "\"", size);
    }
}

fn csv() -> Vec<Row> {
    rows! { "CSV", CSV;
        "numbers", COLUMNS, Answer, |size| {
            let head = format!("{}\n", names().replace('"', ""));
            filled(&head, &format!("{}\n", numbers()), "", size)
        };
        "numbers of one column", TEXTS, Any, |size| filled("x\n", "1.25\n", "", size);
        "a header of commas", COLUMNS, TooLarge, |size| filled("", ",", "\n1\n", size);
        "one name many times", COLUMNS, TooLarge, |size| filled("", "a,", "\n1\n", size);
        "names that take those of others", COLUMNS, TooLarge, |size| {
            let taken = numbered(("", ""), |index| format!("a.{index},"), size / 2);
            filled(&String::from_utf8(taken).unwrap(), ",a", "\n1\n", size)
        };
        "texts of one letter", TEXTS, TooLarge, |size| filled("t\n", "a\n", "", size);
        "missing cells", TEXTS, TooLarge, |size| filled("t,u\n", ",\n", "", size);
        "one wide header and short rows", COLUMNS, Refusal, |size| {
            filled(&format!("{}b\n", "a,".repeat(size / 4)), "1\n", "", size)
        };
        "one cell of quotes", TEXTS, Any, |size| filled("t\n\"", "\"\"", "\"\n", size);
        "blank lines", TEXTS, Any, |size| filled("t\n1\n", " \n", "", size);
        "quotes that stay open", TEXTS, Any, |size| filled("t\n", "\"a\n", "", size);
    }
}

fn parquet() -> Vec<Row> {
    rows! { "Parquet", PARQUET;
        "numbers", COLUMNS, Answer, files::floats;
        "numbers of which some are missing", COLUMNS, Answer, files::missing;
        "one number, over and over", COLUMNS, TooLarge, files::repeated;
        "lists of one", LISTS, TooLarge, files::lists;
        "empty lists", LISTS, TooLarge, files::empty_lists;
        "decimals", TEXTS, TooLarge, files::decimals;
        "dates", TEXTS, TooLarge, files::dates;
        "missing texts", TEXTS, TooLarge, files::missing_texts;
        "one long text, over and over", TEXTS, TooLarge, files::long_texts;
        "structs", LISTS, TooLarge, files::structs;
        "many columns", COLUMNS, Any, files::columns;
    }
}

fn v1() -> Vec<Row> {
    const HEAD: &str = "{\"instances\":[";
    rows! { "V1", JSON;
        "numbers", V1, Answer, |size| filled(HEAD, &format!("[{}],", numbers()), "]}", size);
        "objects of numbers", V1, Answer, |size| {
            filled(HEAD, &format!("{{\"x\":[{}]}},", numbers()), "]}", size)
        };
        "numbers by columns", V1, Answer, |size| {
            filled("{\"inputs\":[", &format!("[{}],", numbers()), "]}", size)
        };
        "empty texts", V1_TEXTS, TooLarge, |size| filled(HEAD, "\"\",", "]}", size);
        "objects of base64", V1_TEXTS, TooLarge, |size| filled(HEAD, "{\"b64\":\"\"},", "]}", size);
        "lists of one", V1, TooLarge, |size| filled(HEAD, "[1],[1,2],", "]}", size);
        "ragged lists in lists", V1, TooLarge, |size| ragged("{\"inputs\":", "}", size);
        "one input many times", V1, Refusal, |size| filled("{\"inputs\":{\"x\":[1],", "\"x\":[1],", "}}", size);
        "many unknown keys", V1, Any, |size| {
            numbered(("{\"instances\":[],", "}"), |index| format!("\"{index}\":1,"), size)
        };
    }
}

fn oip() -> Vec<Row> {
    const HEAD: &str = "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[";
    rows! { "OIP, JSON", JSON;
        "numbers", OIP, Answer, |size| {
            let rows = (size - 200) / (5 * WIDTH);
            let data = format!("{},", numbers()).repeat(rows);
            let data = data.trim_end_matches(',');
            format!("{HEAD}{rows},{WIDTH}],\"data\":[{data}]}}]}}").into_bytes()
        };
        "nested numbers", OIP, Answer, |size| {
            let row = format!("[{}],", numbers());
            let rows = (size - 200) / row.len();
            let data = row.repeat(rows);
            let data = data.trim_end_matches(',');
            format!("{HEAD}{rows},{WIDTH}],\"data\":[{data}]}}]}}").into_bytes()
        };
        "empty texts", OIP_TEXTS, TooLarge, |size| filled(&format!("{HEAD}1],\"data\":["), "\"\",", "]}]}", size);
        "lists of one", OIP, TooLarge, |size| filled(&format!("{HEAD}1],\"data\":["), "[1],[1,2],", "]}]}", size);
        "ragged lists in lists", OIP, TooLarge, |size| ragged(&format!("{HEAD}1],\"data\":"), "}]}", size);
        "a shape of many dimensions", OIP, Any, |size| filled(HEAD, "1,", "],\"data\":[1]}]}", size);
        "many empty inputs", OIP, Refusal, |size| filled("{\"inputs\":[", "{},", "]}", size);
        "inputs of lists", OIP, TooLarge, |size| {
            filled("{\"inputs\":[", &format!("{{\"data\":[{}[]]}},", "[1],".repeat(250)), "]}", size)
        };
        "many parameters", OIP, Refusal, |size| {
            numbered(("{\"inputs\":[],\"parameters\":{", "}}"), |index| format!("\"{index}\":1,"), size)
        };
        "parameters of lists", OIP, TooLarge, |size| {
            filled("{\"inputs\":[],\"parameters\":{\"p\":[", "[1],[1,2],", "]}}", size)
        };
        "many outputs", OIP, Refusal, |size| {
            numbered(("{\"inputs\":[],\"outputs\":[", "]}"), |index| format!("{{\"name\":\"{index}\"}},"), size)
        };
    }
}

/// The JSON of a binary body, and so many bytes behind it.
fn framed(datatype: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!(
        "{{\"inputs\":[{{\"name\":\"{}\",\"datatype\":\"{datatype}\",\"shape\":[{shape}],\"parameters\":\
         {{\"binary_data_size\":{}}}}}]}}\n",
        if datatype == "BYTES" { "t" } else { "x" },
        bytes.len()
    );
    [head.as_bytes(), bytes].concat()
}

fn binary() -> Vec<Row> {
    rows! { BINARY, "application/octet-stream";
        "numbers", OIP, Answer, |size| {
            let rows = (size - 300) / (4 * WIDTH);
            framed("FP32", &format!("{rows},{WIDTH}"), &vec![0x3f; rows * 4 * WIDTH])
        };
        "empty texts", OIP_TEXTS, TooLarge, |size| {
            let texts = (size - 300) / 4;
            framed("BYTES", &format!("{texts},1"), &vec![0; texts * 4])
        };
        "texts of one letter", OIP_TEXTS, TooLarge, |size| {
            let texts = (size - 300) / 5;
            framed("BYTES", &format!("{texts},1"), &[1, 0, 0, 0, b'a'].repeat(texts))
        };
        "long texts", OIP_TEXTS, Answer, |size| {
            let texts = (size - 300) / 68;
            let text = [&[64, 0, 0, 0][..], &[b'a'; 64]].concat();
            framed("BYTES", &format!("{texts},1"), &text.repeat(texts))
        };
    }
}

fn events() -> Vec<Row> {
    const HEAD: &str = "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"s\",\"type\":\"t\",";
    rows! { "CloudEvents", "application/cloudevents+json";
        "numbers", V1, Answer, |size| {
            filled(&format!("{HEAD}\"data\":{{\"instances\":["), &format!("[{}],", numbers()), "]}}", size)
        };
        "base64", V1, Refusal, |size| {
            let size = size / 4 * 4;
            let room = (size - HEAD.len() - 20) / 4 * 4;
            format!("{HEAD}\"data_base64\":\"{}\"}}", "AAAA".repeat(room / 4)).into_bytes()
        };
        "many attributes", V1, Refusal, |size| numbered((HEAD, "}"), |index| format!("\"{index}\":1,"), size);
        "ragged lists in lists", V1, TooLarge, |size| {
            ragged(&format!("{HEAD}\"data\":{{\"inputs\":"), "}}", size)
        };
    }
}
