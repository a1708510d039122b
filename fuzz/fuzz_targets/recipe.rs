//! Recipes: any text is an error, or a recipe that is the same after it is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wdsr_train::Recipe;

fuzz_target!(|text: &str| {
    let Ok(recipe) = Recipe::parse(text, None) else {
        return;
    };
    let written = recipe.to_toml();
    let again = Recipe::parse(&written, None).expect("our own recipe is read");
    assert_eq!(again.to_toml(), written);
    assert_eq!(again.difference(&recipe), None);
});
