//! Results, parameters, the OpenAPI document, the page.

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::Value;
use wdsr_image::{Colour, Format, Image, Limits as ReadingLimits, Reader, Samples, encode_bytes};
use wdsr_model::{BuiltinModel, Upscaler};
use wdsr_serve::{Access, Limits, Token};
use wdsr_testing::containers::with_jpeg_segments;
use wdsr_testing::http;

use super::{Running, image, json, png, refusal, size_of, small};

/// What the crate `wdsr-upscale` makes of an image by these models.
fn expected(file: &[u8], kind: &str, format: Format) -> Vec<u8> {
    let models = BuiltinModel::of_kind(kind);
    let networks = models
        .iter()
        .map(|model| Upscaler::new(&model.load()).expect("a network"));
    let networks = Vec::from_iter(networks);
    let reader = Reader::from_bytes(file, Path::new("x"), &ReadingLimits::default());
    let settings = wdsr_upscale::Settings::default();
    let job = wdsr_upscale::Job::new(
        reader.expect("an image"),
        &Vec::from_iter(&networks),
        settings,
    );
    let progress = |_: usize, _: usize| ControlFlow::Continue(());
    let (bytes, _) = job
        .expect("a plan")
        .into_bytes(Path::new("y"), format, &progress)
        .expect("a file");
    bytes
}

fn sixteen_bit() -> Vec<u8> {
    let samples = Vec::from_iter((0..20 * 16 * 3).map(|i: u32| (i * 7919 % 65_521) as u16));
    png(&Image::new(20, 16, Colour::Rgb, Samples::U16(samples)))
}

#[test]
fn results_are_those_of_the_library_byte_for_byte() {
    let server = Running::start(Limits::default());
    let jpeg = encode_bytes(&image(40, 32, Colour::Rgb), Format::Jpeg).expect("a file");
    let comment = with_jpeg_segments(&jpeg, &[(0xfe, b"a comment")]);
    for (name, file, kind, format) in [
        ("png", small(), "base", Format::Png),
        ("16 bit", sixteen_bit(), "small", Format::Png),
        (
            "tiff",
            encode_bytes(&image(9, 8, Colour::Grey), Format::Tiff).expect("a file"),
            "small",
            Format::Tiff,
        ),
        ("jpeg", comment, "base", Format::Jpeg),
    ] {
        let answer = server.upscale(&format!("model={kind}"), &file);
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        assert!(answer.body == expected(&file, kind, format), "{name}");
        let report: Value = serde_json::from_str(answer.header("wdsr-report")).expect("JSON");
        assert_eq!(report["steps"], "x2", "{name}");
        assert_eq!(report["model"], kind, "{name}");
    }
    // Without pieces of its encoder: the pixels.
    let alpha = png(&image(24, 18, Colour::RgbAlpha));
    let answer = server.upscale("model=small", &alpha);
    let pixels = |file: &[u8]| {
        wdsr_image::decode_bytes(file, Path::new("x"), &ReadingLimits::default()).expect("an image")
    };
    assert!(pixels(&answer.body) == pixels(&expected(&alpha, "small", Format::Png)));
}

#[test]
fn the_model_is_chosen_by_the_image_and_the_answer_tells() {
    let server = Running::start(Limits::default());
    let mut noisy = image(160, 128, Colour::Rgb);
    let Samples::U8(samples) = &mut noisy.samples else {
        panic!("8 bit")
    };
    for (sample, noise) in samples
        .iter_mut()
        .zip(wdsr_testing::random::bytes(160 * 128 * 3, 1))
    {
        *sample = sample.wrapping_add(noise / 8);
    }
    let report = |query: &str, file: &[u8]| -> Value {
        let answer = server.upscale(query, file);
        serde_json::from_str(answer.header("wdsr-report"))
            .unwrap_or_else(|e| panic!("{e}: {}", answer.text()))
    };
    let chosen = report("", &png(&noisy));
    assert_eq!(chosen["model"], "photo", "{chosen}");
    assert!(
        chosen["strength"]
            .as_f64()
            .is_some_and(|strength| strength > 0.0),
        "{chosen}"
    );
    assert_eq!(report("", &small())["model"], "base");
    let given = report("strength=0.5&scale=4", &small());
    assert_eq!(
        (&given["model"], &given["strength"], &given["width_px"]),
        (&"photo".into(), &0.5.into(), &96.into())
    );
    assert_eq!(report("scale=1", &small())["model"], Value::Null);
}

#[test]
fn a_form_has_one_file() {
    let server = Running::start(Limits::default());
    let part = |disposition: &str, content: &[u8]| {
        let head = format!("--limit\r\nContent-Disposition: form-data; {disposition}\r\n\r\n");
        [head.as_bytes(), content, b"\r\n"].concat()
    };
    let post = |parts: &[Vec<u8>]| {
        let body = [&parts.concat()[..], b"--limit--\r\n"].concat();
        let headers = ["content-type: multipart/form-data; boundary=limit"];
        http::request(
            server.address,
            "POST /v1/upscale?model=small",
            &headers,
            &body,
        )
    };
    let file = |content: &[u8]| part("name=\"file\"; filename=\"../folder/kitten.png\"", content);
    let answer = post(&[file(&small())]);
    assert_eq!((answer.status, size_of(&answer.body)), (200, (48, 40)));
    let message = |parts: &[Vec<u8>]| {
        let (status, _, message) = refusal(&post(parts));
        (status, message)
    };
    assert_eq!(message(&[]).0, 422);
    let two = message(&[file(b"1"), file(b"2")]);
    assert_eq!(
        two,
        (422, "expected one file in the form, found more".to_owned())
    );
    let (status, text) = message(&[part("name=\"scale\"", b"4")]);
    assert!(
        status == 422 && text.contains("\"scale\" of the form is no file"),
        "{text}"
    );
    // The name of the file is in messages, without its folders.
    let (status, text) = message(&[file(b"no image")]);
    assert!(
        status == 415 && text.starts_with("kitten.png is not an image"),
        "{text}"
    );
}

#[test]
fn parameters_set_size_format_and_metadata() {
    let server = Running::start(Limits::default());
    for (query, size) in [
        ("scale=4", (96, 80)),
        ("factor=1.5", (36, 30)),
        ("width=30", (30, 25)),
        ("height=60", (72, 60)),
        ("longest=36", (36, 30)),
        ("size=36x30", (36, 30)),
    ] {
        let answer = server.upscale(&format!("model=small&{query}"), &small());
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        assert_eq!(size_of(&answer.body), size, "{query}");
    }
    let types = [
        ("jpg", "image/jpeg"),
        ("webp", "image/webp"),
        ("tif", "image/tiff"),
        ("bmp", "image/bmp"),
    ];
    for (format, media_type) in types {
        let answer = server.upscale(&format!("model=small&format={format}"), &small());
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, media_type)
        );
    }
    let jpeg = encode_bytes(&image(20, 16, Colour::Rgb), Format::Jpeg).expect("a file");
    let comment = with_jpeg_segments(&jpeg, &[(0xfe, b"a comment")]);
    let result = |query: &str, file: &[u8]| server.upscale(&format!("model=small&{query}"), file);
    let has_comment = |file: &[u8]| file.windows(9).any(|bytes| bytes == b"a comment");
    assert!(has_comment(&result("quality=50", &comment).body));
    assert!(!has_comment(&result("metadata=strip", &comment).body));
    assert!(result("quality=20", &jpeg).body.len() < result("quality=95", &jpeg).body.len());
    // What a format cannot hold is a warning.
    let warned = result("format=bmp", &comment);
    let warnings = warned.header("wdsr-warnings");
    assert!(
        warnings.starts_with("[\"dropped ") && warnings.contains("comment"),
        "{warnings}"
    );
    let f32 = result("precision=f32", &small()).body;
    for precision in ["bf16", "int8", "auto"] {
        let made = result(&format!("precision={precision}"), &small());
        assert_eq!(made.status, 200, "{precision}: {}", made.text());
        // A difference, or a warning that there is none.
        let is_f32 = made.body == f32;
        let warnings = made.header("wdsr-warnings");
        assert!(
            precision == "auto" || is_f32 == warnings.contains("not faster than f32"),
            "{precision}: {warnings}"
        );
        let report = made.header("wdsr-report");
        let says_f32 = report.contains("\"precision\":\"f32\"");
        assert_eq!(is_f32, says_f32, "{precision}: {report}");
    }
}

#[test]
fn wrong_parameters_are_refused_with_what_is_expected() {
    let server = Running::start(Limits::default());
    for (query, expected) in [
        (
            "scale=5",
            "scale: expected 1, 2, 3, 4 or 8 (factor takes any other), found \"5\"",
        ),
        (
            "factor=-1",
            "factor: expected a number above 0 such as 2.7, found \"-1\"",
        ),
        (
            "width=0",
            "width: expected a number of pixels, 1 or more, found \"0\"",
        ),
        (
            "size=3x",
            "size: expected WIDTHxHEIGHT such as 3840x2160, found \"3x\"",
        ),
        (
            "model=../base",
            "model: expected base, photo or small, found \"../base\"",
        ),
        (
            "format=jxl",
            "format: expected png, jpg, webp, tif, bmp or gif, found \"jxl\"",
        ),
        (
            "strength=2",
            "strength: expected a number from 0 to 1 such as 0.5, found \"2\"",
        ),
        (
            "strength=1&model=small",
            "strength: this model has no strength; model=photo has one",
        ),
        (
            "precision=int4",
            "precision: expected f32, bf16, f16, int8 or auto, found \"int4\"",
        ),
        (
            "precision=f16",
            "precision f16: only GPUs compute in f16; choose f32, bf16, int8 or auto, or a GPU",
        ),
        (
            "precision=int8&model=photo",
            "precision int8: photo has no scales for int8; add them by `wdsr quantize`, or use base or small",
        ),
        (
            "precision=int8&strength=0.5",
            "precision int8: photo has no scales for int8",
        ),
        (
            "scale=2&width=9",
            "scale and width both give the size; expected one of them",
        ),
        ("scale=2&scale=2", "scale is given twice"),
        (
            "quality=9",
            "quality is for jpeg, and the result is png; omit it, or choose format=jpg",
        ),
        ("size=96x20", "the image: 96 x 20 would stretch its 24 x 20"),
        (
            "colour=red",
            "unknown parameter \"colour\"; expected model, scale",
        ),
        ("factor=1e300", "a side of the result would have more than"),
    ] {
        let (status, code, message) = refusal(&server.upscale(query, &small()));
        assert_eq!(status, 422, "{query}: {code}");
        assert!(message.contains(expected), "{query}: {message}");
    }
    let alpha = png(&image(8, 8, Colour::RgbAlpha));
    let (status, code, message) = refusal(&server.upscale("format=jpg", &alpha));
    assert_eq!((status, &*code), (422, "unusable_image"), "{message}");
    assert!(message.contains("it cannot hold"), "{message}");
}

#[test]
fn the_token_is_needed_for_all_but_the_page() {
    let folder = std::env::temp_dir().join(format!("wdsr-serve-{}", std::process::id()));
    std::fs::write(&folder, "0123456789abcdef-secret\n").expect("written");
    let token = Token::read(&folder).expect("a token");
    std::fs::remove_file(&folder).expect("removed");
    let server = Running::with_access(Access::Token(token), Limits::default());
    let get = |path: &str, headers: &[&str]| http::request(server.address, path, headers, b"");
    for path in [
        "GET /",
        "GET /page.js",
        "GET /healthz",
        "GET /readyz",
        "GET /openapi.json",
    ] {
        assert_eq!(get(path, &["host: example.org"]).status, 200, "{path}");
    }
    for path in [
        "GET /v1/models",
        "GET /metrics",
        "GET /v1/jobs/1",
        "POST /v1/upscale",
        "DELETE /v1/jobs/1",
    ] {
        for header in [
            "accept: */*",
            "authorization: Bearer 0123456789abcdef-secreT",
            "authorization: Bearer 0123456789abcdef",
            "authorization: Bearer ",
            "authorization: 0123456789abcdef-secret",
        ] {
            let answer = get(path, &[header]);
            assert_eq!(
                (answer.status, answer.header("www-authenticate")),
                (401, "Bearer"),
                "{path}, {header}"
            );
        }
        let answer = get(path, &["authorization: Bearer 0123456789abcdef-secret"]);
        assert_ne!(answer.status, 401, "{path}");
    }
}

#[test]
fn pages_of_other_sites_are_refused() {
    let server = Running::start(Limits::default());
    let port = server.address.port();
    let post = |headers: &[&str]| {
        http::request(
            server.address,
            "POST /v1/upscale?model=small",
            headers,
            &small(),
        )
    };
    assert_eq!(post(&[]).status, 200);
    assert_eq!(
        post(&[&format!("origin: http://127.0.0.1:{port}")]).status,
        200
    );
    for header in [
        "origin: http://example.org",
        "origin: null",
        "host: example.org",
        "origin: http://127.0.0.1:1",
    ] {
        let (status, code, _) = refusal(&post(&[header]));
        assert_eq!((status, &*code), (403, "forbidden"), "{header}");
    }
    let answer = post(&["origin: http://example.org"]);
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

/// The document is made of the tables that serve; here it is compared with what is served.
#[test]
fn the_openapi_document_has_every_route_and_parameter() {
    let server = Running::start(Limits::default());
    let answer = server.request("GET /openapi.json", b"");
    let document = json(&answer);
    assert_eq!(document["openapi"], "3.1.0");
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            routes.push(format!("{method} {path}"));
            let target = path.replace("{id}", "0");
            let answer = server.request(&format!("{} {target}", method.to_uppercase()), b"");
            let responses = &operation["responses"];
            assert!(
                !responses[answer.status.to_string()].is_null(),
                "{method} {path}: {}",
                answer.status
            );
            if answer.status == 404 {
                assert!(path.contains("{id}"), "{path}");
            }
        }
    }
    assert_eq!(
        routes,
        [
            "get /healthz",
            "get /metrics",
            "get /openapi.json",
            "get /readyz",
            "post /v1/jobs",
            "delete /v1/jobs/{id}",
            "get /v1/jobs/{id}",
            "get /v1/jobs/{id}/events",
            "get /v1/jobs/{id}/result",
            "get /v1/models",
            "post /v1/stream",
            "post /v1/upscale",
        ]
    );
    // An unknown parameter is answered with all known ones.
    let (_, _, message) = refusal(&server.upscale("x=1", b""));
    for path in ["/v1/upscale", "/v1/jobs"] {
        let parameters = document["paths"][path]["post"]["parameters"]
            .as_array()
            .expect("parameters");
        let names = Vec::from_iter(
            parameters
                .iter()
                .filter_map(|parameter| parameter["name"].as_str()),
        );
        assert_eq!(
            message,
            format!("unknown parameter \"x\"; expected {}", names.join(", "))
        );
        for parameter in parameters {
            let of_type = |schema: &Value| match schema["enum"].as_array() {
                Some(values) => values
                    .last()
                    .map(|value| value.to_string().replace('"', "")),
                None if schema["type"] == "string" => Some("48x40".to_owned()),
                None => Some("1".to_owned()),
            };
            let (name, value) = (
                &parameter["name"],
                of_type(&parameter["schema"]).expect("a value"),
            );
            let query = format!("{}={value}", name.as_str().expect("a name"));
            let answer = server.upscale(&query, b"no image");
            // It gets as far as the image.
            assert_eq!(answer.status, 415, "{query}: {}", answer.text());
        }
    }
}

#[test]
fn every_answer_has_the_headers_that_protect_the_page() {
    let server = Running::start(Limits::default());
    for path in [
        "GET /",
        "GET /page.css",
        "GET /v1/models",
        "GET /nothing",
        "PUT /v1/upscale",
        "POST /v1/upscale",
    ] {
        let answer = server.request(path, b"");
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'"),
            "{path}: {policy}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
    assert_eq!(refusal(&server.request("GET /etc/passwd", b"")).0, 404);
    assert_eq!(refusal(&server.request("GET /../Cargo.toml", b"")).0, 404);
    assert_eq!(refusal(&server.request("PUT /v1/upscale", b"")).0, 405);
}

#[test]
fn the_page_is_small_and_refers_to_its_own_files_only() {
    let server = Running::start(Limits::default());
    let page = server.request("GET /", b"").text();
    assert!(page.contains("id=\"viewport\""), "without the viewer");
    let mut bytes = page.len();
    for name in ["page.css", "viewer.js", "zip.js", "engine.js", "page.js"] {
        assert!(page.contains(&format!("\"{name}\"")), "{name}");
        let text = server.request(&format!("GET /{name}"), b"").text();
        assert!(
            !text.contains("//cdn") && !text.contains("https://"),
            "{name}"
        );
        bytes += text.len();
    }
    assert!(bytes < 36_000, "{bytes} bytes");
    assert!(
        !page.contains("style=") && !page.contains("onclick"),
        "the policy forbids it"
    );
}

#[test]
fn metrics_count_requests_and_images() {
    let server = Running::start(Limits::default());
    server.upscale("model=small", &small());
    server.upscale("model=small", b"no image");
    for (name, expected) in [
        (
            "wdsr_requests_total{method=\"POST\",path=\"/v1/upscale\",status=\"200\"}",
            1.0,
        ),
        (
            "wdsr_requests_total{method=\"POST\",path=\"/v1/upscale\",status=\"415\"}",
            1.0,
        ),
        ("wdsr_images_total{outcome=\"done\"}", 1.0),
        ("wdsr_images_total{outcome=\"unsupported_format\"}", 1.0),
        ("wdsr_image_seconds_count", 2.0),
        ("wdsr_images_running", 0.0),
        ("wdsr_images_waiting", 0.0),
    ] {
        assert_eq!(server.metric(name), expected, "{name}");
    }
    server.wait_for("wdsr_held_bytes", 0.0);
}
