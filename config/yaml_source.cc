#include "config/yaml_source.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <map>
#include <optional>
#include <sstream>

#include "config/suggest.h"
#include "config/value.h"
#include "kernels/base/status.h"

namespace kdn::config {
namespace {

// Listens to the parser's events instead of building its node tree: the tree would expand aliases, which a small file
// can use to fill all memory, and forgets duplicate keys. Everything below the level of values is skipped.
class SettingsHandler final : public YAML::EventHandler {
 public:
  SettingsHandler(std::string_view name, Problems& problems) : name_(name), problems_(problems) {}

  std::vector<FileSetting> TakeSettings() { return std::move(settings_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { OnSingle(mark, anchor, nullptr); }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Report(mark, "aliases are not supported: write the value out");
    OnIgnored();
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    // "?" is what the parser calls a plain scalar, "!" a quoted one.
    if (!tag.empty() && tag != "?" && tag != "!") Report(mark, StrCat("tags are not supported: ", Quoted(tag)));
    OnSingle(mark, anchor, &value);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    OnCollectionStart(mark, anchor, Collection::kSequence);
  }
  void OnSequenceEnd() override { OnCollectionEnd(); }

  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    OnCollectionStart(mark, anchor, Collection::kMapping);
  }
  void OnMapEnd() override { OnCollectionEnd(); }

 private:
  enum class Collection { kMapping, kSequence };
  static constexpr int kFileLevel = 0;
  static constexpr int kSectionLevel = 1;
  static constexpr int kKeyLevel = 2;
  static constexpr char kNoName[] = "expected a name, got nothing";

  // The key of the mapping on a level whose value is awaited. An empty name: unusable, its value is to be skipped.
  struct Pending {
    std::string name;
    YAML::Mark mark;
  };

  std::string Where(const YAML::Mark& mark) const { return StrCat(name_, ":", mark.line + 1, ":", mark.column + 1); }
  void Report(const YAML::Mark& mark, std::string_view what) { problems_.Add(Where(mark), what); }

  bool skipping() const { return skip_level_ > 0; }
  std::optional<Pending>& pending() { return level_ == kSectionLevel ? section_ : key_; }

  void RefuseAnchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) Report(mark, "anchors are not supported");
  }

  void OnIgnored() {
    if (skipping() || level_ == kFileLevel) return;
    if (pending().has_value()) {
      pending().reset();
    } else {
      pending() = Pending{};
    }
  }

  // `value` is nullptr for a null.
  void OnSingle(const YAML::Mark& mark, YAML::anchor_t anchor, const std::string* value) {
    RefuseAnchor(mark, anchor);
    if (skipping()) return;
    if (level_ == kFileLevel) {
      if (value != nullptr) Report(mark, "expected sections such as 'server:', got a single value");
      return;
    }
    if (!pending().has_value()) {
      pending() = level_ == kSectionLevel ? SectionName(mark, value) : KeyName(mark, value);
      return;
    }
    const Pending awaited = *std::exchange(pending(), std::nullopt);
    if (awaited.name.empty()) return;
    if (level_ == kKeyLevel) {
      TakeValue(awaited, mark, value);
    } else if (value != nullptr) {
      Report(mark, StrCat("section '", awaited.name, "' holds keys, got a single value"));
    }
  }

  void OnCollectionStart(const YAML::Mark& mark, YAML::anchor_t anchor, Collection kind) {
    RefuseAnchor(mark, anchor);
    ++level_;
    if (skipping()) return;
    const int outer = level_ - 1;
    if (outer == kFileLevel) {
      if (kind == Collection::kMapping) return;
      Report(mark, "expected sections such as 'server:', got a list");
    } else {
      const std::optional<Pending>& awaited = outer == kSectionLevel ? section_ : key_;
      if (!awaited.has_value()) {
        Report(mark, "expected a name, got a list or mapping");
      } else if (!awaited->name.empty()) {
        if (outer == kSectionLevel && kind == Collection::kMapping) return;
        Report(mark, outer == kSectionLevel ? StrCat("section '", awaited->name, "' holds keys, got a list")
                                            : StrCat("'", FullName(awaited->name), "' takes a single value, got a ",
                                                     kind == Collection::kMapping ? "mapping" : "list"));
      }
    }
    skip_level_ = level_;
  }

  void OnCollectionEnd() {
    const int ended = level_--;
    if (skipping()) {
      if (ended > skip_level_) return;
      skip_level_ = 0;
    }
    OnIgnored();
  }

  std::string FullName(std::string_view key) const { return StrCat(section_->name, ".", key); }

  std::string Unknown(std::string_view what, std::string_view name, std::string (*suggest)(std::string_view)) const {
    // Searching for the nearest name is slow for a file of nothing but unknown ones.
    return problems_.full() ? "" : StrCat("unknown ", what, " ", Quoted(name), suggest(name));
  }

  // True if `name` was seen before, which is reported.
  bool IsRepeated(const YAML::Mark& mark, const std::string& name) {
    const auto [first, inserted] = first_lines_.emplace(name, mark.line + 1);
    if (!inserted) Report(mark, StrCat("'", name, "' is given twice, first in line ", first->second));
    return !inserted;
  }

  Pending SectionName(const YAML::Mark& mark, const std::string* name) {
    if (name == nullptr || !IsSection(*name)) {
      Report(mark, name != nullptr ? Unknown("section", *name, DidYouMeanSection) : kNoName);
      return Pending{};
    }
    // The keys of a repeated section are still read, to report what is wrong with them.
    IsRepeated(mark, *name);
    return Pending{*name, mark};
  }

  Pending KeyName(const YAML::Mark& mark, const std::string* key) {
    const std::string name = FullName(key != nullptr ? *key : "");
    if (FindKey(name) == nullptr) {
      Report(mark, key != nullptr ? Unknown("key", name, DidYouMeanKey) : kNoName);
      return Pending{};
    }
    if (IsRepeated(mark, name)) return Pending{};
    return Pending{*key, mark};
  }

  void TakeValue(const Pending& key, const YAML::Mark& mark, const std::string* value) {
    const std::string name = FullName(key.name);
    if (value == nullptr) {
      Report(key.mark, StrCat("'", name, "' has no value: give one, or remove the line to have the default"));
      return;
    }
    settings_.push_back(FileSetting{FindKey(name), *value, mark.line + 1, mark.column + 1});
  }

  const std::string_view name_;
  Problems& problems_;
  std::vector<FileSetting> settings_;
  std::map<std::string, int> first_lines_;
  int level_ = kFileLevel;
  int skip_level_ = 0;  // the level from which events are skipped; 0: none is
  std::optional<Pending> section_;
  std::optional<Pending> key_;
};

}  // namespace

std::vector<FileSetting> ParseYaml(std::string_view text, std::string_view name, Problems& problems) {
  if (text.size() > kMaxFileBytes) {
    problems.Add(name, StrCat("the file has ", text.size(), " bytes, at most ", kMaxFileBytes, " are read"));
    return {};
  }
  // yaml-cpp lets a quote that is never closed end with the file; before an explicit end of the document it refuses it.
  std::istringstream stream(StrCat(text, "\n...\n"));
  SettingsHandler handler(name, problems);
  // yaml-cpp reports by exceptions; they end here. Its parser bounds its own recursion.
  try {
    YAML::Parser parser(stream);
    if (parser.HandleNextDocument(handler) && parser) problems.Add(name, "the file has more than one document");
  } catch (const YAML::Exception& error) {
    const std::string where =
        error.mark.is_null() ? std::string(name) : StrCat(name, ":", error.mark.line + 1, ":", error.mark.column + 1);
    problems.Add(where, StrCat("not valid YAML: ", error.msg));
  } catch (const std::exception& error) {
    problems.Add(name, StrCat("cannot be parsed as YAML: ", error.what()));
  }
  return handler.TakeSettings();
}

}  // namespace kdn::config
